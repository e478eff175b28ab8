//! Files that all containers of a pod see, and their shared memory.

use std::{ffi::CString, io, path::Path};

use crioxide_engine::ports::{Owner, PortError, SandboxFiles, SandboxPaths};
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited, write_new};
use rustix::{
    fs::CWD,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

/// Largest resolv.conf copied from the host, bytes.
const RESOLV_CONF_MAX: u64 = 1 << 20;
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
const MODE: u32 = 0o644;

/// Writes the files into the pod's run directory and mounts its /dev/shm there.
pub(super) fn create(run: &Path, files: &SandboxFiles) -> Result<SandboxPaths, PortError> {
    let paths = SandboxPaths {
        resolv_conf: run.join("resolv.conf"),
        hostname: run.join("hostname"),
        containerenv: run.join(".containerenv"),
        shm: if files.shm_size.is_some() {
            run.join("shm")
        } else {
            "/dev/shm".into()
        },
    };
    let resolv_conf = match &files.resolv_conf {
        Some(text) => text.clone().into_bytes(),
        None => match read_limited(HOST_RESOLV_CONF, RESOLV_CONF_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        },
    };
    write_new(&paths.resolv_conf, &resolv_conf, MODE)?;
    let hostname = crioxide_runtime_spec::files::hostname_file(&files.hostname);
    write_new(&paths.hostname, hostname.as_bytes(), MODE)?;
    write_new(&paths.containerenv, b"", MODE)?;
    if let Some(size) = files.shm_size {
        mount_shm(&paths.shm, size, &files.ownership.label)?;
    }
    for path in [&paths.resolv_conf, &paths.hostname, &paths.containerenv] {
        super::label_file(path, &files.ownership.label)?;
    }
    if let Some(owner) = files.ownership.owner {
        let own = [&paths.resolv_conf, &paths.hostname, &paths.containerenv];
        let shm = files.shm_size.map(|_| &paths.shm);
        for path in own.into_iter().chain(shm) {
            std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).map_err(|error| {
                format!("cannot change the owner of {}: {error}", path.display())
            })?;
        }
    }
    Ok(paths)
}

/// A root filesystem of one program, for the infra container.
pub(super) fn create_pause_root(
    root: &Path,
    owner: Option<Owner>,
) -> Result<std::path::PathBuf, PortError> {
    std::fs::create_dir_all(root)
        .map_err(|error| format!("cannot make {}: {error}", root.display()))?;
    let program = AtomicOptions {
        mode: 0o755,
        sync: Sync::None,
    };
    atomic_write(root.join("pause"), crioxide_pause::pause_binary(), program)?;
    if let Some(owner) = owner {
        // The runtime makes its mount points in it as the container's root.
        std::os::unix::fs::lchown(root, Some(owner.uid), Some(owner.gid))
            .map_err(|error| format!("cannot change the owner of {}: {error}", root.display()))?;
    }
    Ok(root.to_owned())
}

fn mount_shm(path: &Path, size: u64, label: &str) -> Result<(), PortError> {
    let failed = |action: &str, error: io::Error| {
        PortError::from(format!("cannot {action} {}: {error}", path.display()))
    };
    match rustix::fs::mkdirat(CWD, path, rustix::fs::Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed("make", error.into())),
    }
    let mut data = format!("mode=1777,size={size}");
    if !label.is_empty() {
        data.push_str(&format!(",context=\"{label}\""));
    }
    let data = CString::new(data).map_err(|_| format!("label {label:?} has a NUL"))?;
    let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    mount("shm", path, "tmpfs", flags, data.as_c_str())
        .map_err(|error| failed("mount shared memory at", error.into()))
}

/// Unmounts the pod's /dev/shm; the files go with the record.
pub(super) fn remove(run: &Path) -> Result<(), PortError> {
    let path = run.join("shm");
    match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(format!("cannot unmount {}: {error}", path.display()).into()),
    }
}
