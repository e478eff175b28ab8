//! Whether this machine can run the demo, and how. What is missing is said in one go.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use crioxide_cgroups::CgroupLayout;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::CapabilitySet;

use super::place::{CgroupDriver, mount_memory};

/// What the demo does that not every root may.
const CAPABILITIES: [(CapabilitySet, &str); 6] = [
    (
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN (mounts and namespaces)",
    ),
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN (the pod's network)",
    ),
    (
        CapabilitySet::CHOWN,
        "CAP_CHOWN (owners of the image's files)",
    ),
    (CapabilitySet::SETUID, "CAP_SETUID (the container's user)"),
    (CapabilitySet::SETGID, "CAP_SETGID (the container's groups)"),
    (
        CapabilitySet::SETPCAP,
        "CAP_SETPCAP (the container's capabilities)",
    ),
];
/// The namespaces of a pod, as the kernel names them.
const NAMESPACES: [&str; 5] = ["ipc", "mnt", "net", "pid", "uts"];
/// Room for the image, its unpacked layer and the layout it is loaded from, as multiples of the program.
const PROGRAM_COPIES: u64 = 3;
const ROOM_BESIDES: u64 = 32 << 20;

/// Fails with all that the process or the kernel lacks.
pub(super) fn check_privileges() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a container runtime needs root, and this is user {}: try `sudo {} demo`",
            rustix::process::geteuid().as_raw(),
            std::env::current_exe()
                .map_or_else(|_| "crioxide".to_owned(), |path| path.display().to_string())
        );
    }
    let effective = rustix::thread::capabilities(None)
        .context("read the own capabilities")?
        .effective;
    let mut missing: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, name)| (*name).to_owned())
        .collect();
    missing.extend(
        NAMESPACES
            .iter()
            .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
            .map(|name| format!("{name} namespaces in the kernel")),
    );
    if !missing.is_empty() {
        bail!(
            "this machine or container does not give us: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// systemd manages cgroups where it runs, we do elsewhere.
pub(super) fn cgroup_driver() -> CgroupDriver {
    if Path::new("/run/systemd/system").exists() {
        CgroupDriver::Systemd
    } else {
        CgroupDriver::Cgroupfs
    }
}

/// Name and release of the kernel.
pub(super) fn kernel() -> String {
    let name = rustix::system::uname();
    format!(
        "{} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    )
}

/// How cgroups are found and made here.
pub(super) fn cgroups(driver: CgroupDriver) -> String {
    let version = match CgroupLayout::host() {
        Ok(layout) if layout.is_unified() => "v2",
        Ok(_) => "v1",
        Err(_) => "unknown",
    };
    let by = match driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    };
    format!("cgroup {version} by {by}")
}

/// A new directory in which overlayfs works.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// The directory and what kind it is, for people.
    pub(super) description: String,
}

/// Makes one: in TMPDIR if that is set, else in one of the usual places; on a file system of our own in memory if
/// none of them will do, as in a container, whose files are on overlayfs themselves.
pub(super) fn directory(prefix: &str) -> anyhow::Result<Directory> {
    let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
    let usual = ["/run", "/tmp", "/var/tmp"].map(PathBuf::from);
    let parents = chosen.map_or_else(|| usual.to_vec(), |chosen| vec![chosen]);
    let mut reasons = Vec::new();
    for parent in &parents {
        match directory_in(parent, prefix) {
            Ok(path) => {
                return Ok(Directory {
                    description: path.display().to_string(),
                    path,
                });
            }
            Err(reason) => reasons.push(format!("{}: {reason:#}", parent.display())),
        }
    }
    let parent = parents
        .iter()
        .find(|parent| parent.is_dir())
        .context("there is no directory for temporary files")?;
    let path = new_directory(parent, prefix)?;
    let mounted = mount_memory(&path)
        .context("mount a tmpfs")
        .and_then(|()| try_overlay(&path));
    if let Err(reason) = mounted {
        reasons.push(format!("a tmpfs of our own: {reason:#}"));
        let _ = unmount(&path, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&path);
        bail!(
            "overlayfs, which containers' files are on, does not work here: {}",
            reasons.join("; ")
        );
    }
    let description = format!("{} (a tmpfs of its own)", path.display());
    Ok(Directory { path, description })
}

fn directory_in(parent: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    check_room(parent)?;
    let path = new_directory(parent, prefix)?;
    if let Err(reason) = try_overlay(&path) {
        let _ = std::fs::remove_dir_all(&path);
        return Err(reason);
    }
    Ok(path)
}

fn new_directory(parent: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let parent = parent.canonicalize().context("resolve the directory")?;
    // Only root looks inside: the sockets in it give full control.
    let directory = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent)
        .context("create a directory")?;
    Ok(directory.keep())
}

fn check_room(parent: &Path) -> anyhow::Result<()> {
    let program = std::fs::metadata("/proc/self/exe").map_or(0, |program| program.len());
    let wanted = program * PROGRAM_COPIES + ROOM_BESIDES;
    let state = rustix::fs::statvfs(parent).context("read the free space")?;
    let free = state.f_bavail * state.f_frsize;
    if free < wanted {
        bail!(
            "{} MiB are free, {} MiB are needed",
            free >> 20,
            wanted >> 20
        );
    }
    Ok(())
}

/// Mounts an overlay with its writable side in `directory`, for a moment.
fn try_overlay(directory: &Path) -> anyhow::Result<()> {
    let probe = directory.join("probe");
    let folders = ["lower", "upper", "work", "merged"].map(|name| probe.join(name));
    for folder in &folders {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("create `{}`", folder.display()))?;
    }
    let [lower, upper, work, merged] = folders;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).context("the directory's name")?;
    let mounted = mount(
        "overlay",
        &merged,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .and_then(|()| {
        // A file system that cannot be written on shows only now.
        let written = std::fs::write(merged.join("file"), b"")
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        unmount(&merged, UnmountFlags::DETACH)?;
        written
    });
    std::fs::remove_dir_all(&probe).with_context(|| format!("remove `{}`", probe.display()))?;
    mounted.map_err(|error| match error {
        Errno::NODEV => anyhow::anyhow!("the kernel has no overlayfs (try `modprobe overlay`)"),
        Errno::INVAL => {
            anyhow::anyhow!("its file system cannot hold the writable side of an overlay")
        }
        Errno::PERM | Errno::ACCESS => anyhow::anyhow!("we may not mount an overlay: {error}"),
        error => anyhow::Error::new(error).context("mount an overlay"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_overlay_is_refused_and_left_clean() {
        let folder = tempfile::tempdir().unwrap();
        if check_privileges().is_ok() {
            eprintln!("skipped: the refusal needs a process that may not mount");
            return;
        }
        try_overlay(folder.path()).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_parent_that_is_not_there_is_named() {
        let error = directory_in(Path::new("/nonexistent/parent"), "x").unwrap_err();
        assert!(format!("{error:#}").contains("free space"), "{error:#}");
    }
}
