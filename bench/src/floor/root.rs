//! The container's mounts.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::host::{Host, create};
use super::pod::FILES;

const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const MASKED_FILES: [&str; 4] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/latency_stats",
];
const MASKED_FOLDERS: [&str; 3] = ["/proc/acpi", "/proc/scsi", "/sys/firmware"];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The layers and a fresh upper one at `merged`.
pub(super) fn mount_overlay(host: &Host, folder: &Path) -> Result<()> {
    for name in ["upper", "work", "merged"] {
        create(&folder.join(name))?;
    }
    let base = host.folder().display();
    let own = folder.display();
    let options =
        format!("lowerdir={base}/lower2:{base}/lower1,upperdir={own}/upper,workdir={own}/work");
    let options = CString::new(options).context("a path without zero bytes")?;
    mount(
        "overlay",
        folder.join("merged"),
        "overlay",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .context("mount the overlay")
}

/// In the child's mount namespace: everything a container sees, then the change of root.
pub(super) fn enter(folder: &Path) -> Result<()> {
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", downstream).context("cut the mounts off")?;
    let root = folder.join("merged");
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    file_system(&root, "proc", "proc", plain, c"")?;
    file_system(
        &root,
        "tmpfs",
        "dev",
        MountFlags::NOSUID,
        c"mode=755,size=65536k",
    )?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            CWD,
            root.join("dev").join(name),
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .context("make a device")?;
    }
    for name in ["pts", "mqueue", "shm"] {
        create(&root.join("dev").join(name))?;
    }
    let terminals = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    file_system(
        &root,
        "devpts",
        "dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        terminals,
    )?;
    file_system(&root, "mqueue", "dev/mqueue", plain, c"")?;
    file_system(&root, "sysfs", "sys", plain | MountFlags::RDONLY, c"")?;
    mount_bind(folder.join("shm"), root.join("dev/shm")).context("bind /dev/shm")?;
    for file in FILES {
        mount_bind(folder.join(file), root.join("etc").join(file))
            .context("bind a file of the pod")?;
    }
    chdir(&root).context("go to the root")?;
    pivot_root(".", ".").context("change the root")?;
    unmount(".", UnmountFlags::DETACH).context("leave the old root")?;
    chdir("/").context("go to the new root")?;
    mask()
}

fn mask() -> Result<()> {
    for path in MASKED_FILES.iter().filter(|path| Path::new(path).exists()) {
        mount_bind("/dev/null", *path).context("mask a file")?;
    }
    for path in MASKED_FOLDERS
        .iter()
        .filter(|path| Path::new(path).exists())
    {
        mount("tmpfs", *path, "tmpfs", MountFlags::RDONLY, Some(c"")).context("mask a folder")?;
    }
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        mount_bind(*path, *path).context("bind a path onto itself")?;
        let flags = MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC;
        mount_remount(*path, flags, c"").context("make a path read-only")?;
    }
    Ok(())
}

fn file_system(
    root: &Path,
    kind: &str,
    at: &str,
    flags: MountFlags,
    options: &std::ffi::CStr,
) -> Result<()> {
    mount(kind, root.join(at), kind, flags, Some(options)).with_context(|| format!("mount {kind}"))
}
