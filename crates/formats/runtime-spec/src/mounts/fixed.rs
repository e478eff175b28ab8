//! The mounts every pod and container has, in the order CRI-O writes them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::mount;
use crate::namespaces::{NamespaceSource, NamespaceSources};

/// Files and directories of the pod that are mounted into its containers; `None` leaves the mount out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFiles {
    /// Directory for `/dev/shm`.
    pub shm: Option<PathBuf>,
    /// File for `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// File for `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// File for `/run/.containerenv`.
    pub containerenv: Option<PathBuf>,
    /// The node's `/etc/hosts`, for pods in the node's network.
    pub hosts: Option<PathBuf>,
}

/// Whether processes may write to a mount or file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writability {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    #[default]
    ReadWrite,
}

impl Writability {
    /// The mount option.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        }
    }
}

/// `/proc`, `/dev` and what is below, `/sys`.
#[must_use]
pub fn kernel_mounts(sys: SysSource) -> Vec<Mount> {
    let sys_mount = match sys {
        SysSource::Fresh => mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        // Private, as crun may mount over `/sys/fs/cgroup` and clones this mount where it is shared with the node.
        SysSource::Host => mount(
            "/sys",
            "bind",
            "/sys",
            &["nosuid", "noexec", "nodev", "ro", "rbind", "rprivate"],
        ),
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        sys_mount,
    ]
}

/// Where `/sys` comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SysSource {
    /// A sysfs of the container's network namespace.
    #[default]
    Fresh,
    /// The node's, because a user namespace may not mount a sysfs for the node's network.
    Host,
}

impl SysSource {
    /// The one for these namespaces.
    #[must_use]
    pub fn of(namespaces: &NamespaceSources) -> Self {
        match (&namespaces.user, &namespaces.network) {
            (Some(_), NamespaceSource::Host) => Self::Host,
            _ => Self::Fresh,
        }
    }
}

/// `/sys/fs/cgroup`.
#[must_use]
pub fn cgroup_mount(writability: Writability) -> Mount {
    mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &[
            "nosuid",
            "noexec",
            "nodev",
            "relatime",
            writability.option(),
        ],
    )
}

/// The pod's files as a container sees them, following its root file system's writability.
#[must_use]
pub fn container_files(files: &PodFiles, rootfs: Writability) -> Vec<Mount> {
    let rw = rootfs.option();
    let plain = [rw, "bind"];
    [
        (&files.shm, "/dev/shm", &["rw", "bind"][..]),
        (
            &files.resolv_conf,
            "/etc/resolv.conf",
            &[rw, "bind", "nodev", "nosuid", "noexec"],
        ),
        (&files.hostname, "/etc/hostname", &plain),
        (&files.containerenv, "/run/.containerenv", &plain),
        (&files.hosts, "/etc/hosts", &plain),
    ]
    .into_iter()
    .filter_map(|(source, destination, options)| bind(source.as_deref(), destination, options))
    .collect()
}

/// The pod's files in its own (infra) container, which only reads them.
#[must_use]
pub fn sandbox_files(files: &PodFiles) -> Vec<Mount> {
    let guarded = ["ro", "bind", "nodev", "nosuid", "noexec"];
    [
        (&files.resolv_conf, "/etc/resolv.conf", &guarded[..]),
        (&files.shm, "/dev/shm", &["rw", "bind"]),
        (&files.hostname, "/etc/hostname", &guarded),
    ]
    .into_iter()
    .filter_map(|(source, destination, options)| bind(source.as_deref(), destination, options))
    .collect()
}

/// Writable scratch directories for nodes that make every root file system read-only.
#[must_use]
pub fn scratch_mounts() -> Vec<Mount> {
    [
        ("/run", "mode=0755"),
        ("/tmp", "mode=1777"),
        ("/var/tmp", "mode=1777"),
    ]
    .into_iter()
    .map(|(destination, mode)| {
        mount(
            destination,
            "tmpfs",
            "tmpfs",
            &["rw", "noexec", "nosuid", "nodev", "tmpcopyup", mode],
        )
    })
    .collect()
}

/// Makes every read-only mount writable, for privileged containers.
pub fn make_writable(mounts: &mut [Mount]) {
    for mount in mounts {
        let options = mount.options().clone().unwrap_or_default();
        if options.iter().any(|option| option == "rw") {
            continue;
        }
        let mut writable: Vec<String> = options
            .into_iter()
            .filter(|option| option != "ro")
            .collect();
        writable.push("rw".to_owned());
        mount.set_options(Some(writable));
    }
}

fn bind(source: Option<&Path>, destination: &str, options: &[&str]) -> Option<Mount> {
    source.map(|source| mount(destination, "bind", &source.to_string_lossy(), options))
}
