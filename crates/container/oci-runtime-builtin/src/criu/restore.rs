//! A container made of the state of processes that criu wrote.
//!
//! criu runs where the container is to be: in its cgroup, in the pod's IPC and UTS namespaces. It gets the pod's network
//! and PID namespaces, the bind mounts and the ends of the standard streams by the names that the checkpoint gave them,
//! and makes everything else as its images say. That they say nothing which the bundle does not give is for the caller
//! to have checked.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupProcessError, DetectLayoutError, Driver};
use crioxide_files::{InRoot, InRootError, ReadLimitedError, read_limited, read_to_string_limited};
use crioxide_sys::descriptors::keep_on_exec;
use crioxide_sys::mount_attributes::{MountChange, Reach};
use oci_spec::runtime::{LinuxNamespaceType, Mount};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::bundle::{Bundle, BundleError};
use crate::create::{self, CreateError, Created, InitParent, Unfinished, prepare};
use crate::criu::dump::{MOUNT_TABLE_LIMIT, OPTIONS_FILE, is_bind, unescape};
use crate::process::namespaces::{NamespacePlan, join};
use crate::record::{RecordError, StateDirectory};
use crate::rootfs::mounts::attach::mount_point;
use crate::setup_error::{SetupError, at, step};

/// Longest `descriptors.json`.
const DESCRIPTORS_LIMIT: u64 = 64 << 10;

/// What to restore and how.
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// Container id.
    pub id: &'a str,
    /// Directory of `config.json`.
    pub bundle: &'a Path,
    /// Directory that holds the state of all containers of this runtime.
    pub root: &'a Path,
    /// File that the first process's pid is written to.
    pub pid_file: &'a Path,
    /// Who makes the cgroup.
    pub cgroup_driver: Driver,
    /// The program that reads the state of processes.
    pub criu: &'a Path,
    /// The directory with their images.
    pub images: &'a Path,
    /// An existing directory that gets `restore.log`.
    pub work: &'a Path,
}

/// Why a container was not restored. Its cgroup is left, with this process in it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What is as in a creation.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The runtime's own records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The host's cgroups.
    #[error(transparent)]
    CgroupLayout(#[from] DetectLayoutError),
    /// The container's cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupProcessError),
    /// A step.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A file.
    #[error(transparent)]
    Read(#[from] ReadLimitedError),
    /// The container's root.
    #[error(transparent)]
    InRoot(#[from] InRootError),
    /// A kind of container that is not restored.
    #[error("a container with {what} cannot be restored by this runtime")]
    Unsupported {
        /// Of what kind.
        what: &'static str,
    },
    /// criu.
    #[error("`{} restore` failed with {status}", criu.display())]
    Failed {
        /// The program.
        criu: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// What criu wrote.
    #[error("`{}` is not what criu writes", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a container whose processes go on from where they were.
///
/// To be called in a process with one thread that ends soon afterwards: it is moved into the container's cgroup and some
/// namespaces. Its descriptors 0 to 2 become the other ends of the pipes that the processes write to. The first process
/// becomes a child of the nearest subreaper.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(request: &RestoreRequest<'_>) -> Result<Created, RestoreError> {
    let bundle = Bundle::load(request.bundle)?;
    if bundle.process.terminal() == Some(true) {
        return Err(RestoreError::Unsupported { what: "a terminal" });
    }
    if bundle.spec.hooks().is_some() {
        return Err(RestoreError::Unsupported { what: "hooks" });
    }
    let state = StateDirectory::at(request.root, request.id)?;
    let unfinished = Unfinished::begin(state, InitParent::Caller)?;
    let mut warnings = Vec::new();
    let named = (request.id, request.cgroup_driver);
    let cgroup = prepare::cgroup(named, &bundle, &mut warnings)?;
    let listed = bundle.linux.namespaces().as_deref().unwrap_or_default();
    let namespaces = NamespacePlan::open(listed)?;
    if namespaces.has(LinuxNamespaceType::User) {
        return Err(RestoreError::Unsupported {
            what: "a user namespace",
        });
    }
    make_mount_points(&bundle)?;
    cgroup.join()?;
    let root = own_root(&unfinished.state, &bundle)?;
    for kind in [LinuxNamespaceType::Ipc, LinuxNamespaceType::Uts] {
        namespaces.joins(kind).map_or(Ok(()), join)?;
    }
    let args = args(request, &bundle, &root, &namespaces, &cgroup)?;
    let status = Command::new(request.criu)
        .args(&args)
        .status()
        .map_err(at("run", request.criu))?;
    if !status.success() {
        let criu = request.criu.to_owned();
        return Err(RestoreError::Failed { criu, status });
    }
    let pid = read_pid(&request.work.join("pid"))?;
    let place = prepare::cgroup_path(request.id, request.cgroup_driver, &bundle);
    let systemd = request.cgroup_driver == Driver::Systemd;
    let record = create::record(request.id, &bundle, pid, (place, systemd));
    unfinished
        .state
        .save(&record.ok_or(CreateError::InitDied)?)?;
    create::write_pid(request.pid_file, pid)?;
    unfinished.finish();
    Ok(Created { pid, warnings })
}

/// The container's root as a mount of its own, which criu wants, seen by this process and those it makes.
fn own_root(state: &StateDirectory, bundle: &Bundle) -> Result<PathBuf, RestoreError> {
    crioxide_sys::namespaces::unshare(UnshareFlags::NEWNS).map_err(step("leave the mounts"))?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(step("keep mounts from the node"))?;
    let place = state.path.join("criu-root");
    std::fs::create_dir(&place).map_err(at("make", &place))?;
    let place = place.canonicalize().map_err(at("look up", &place))?;
    mount_bind_recursive(&bundle.root_path, &place).map_err(at("mount the root at", &place))?;
    if bundle.root_read_only {
        make_read_only(&place)?;
    }
    Ok(place)
}

/// criu mounts the root as it is, whatever its images say of it.
fn make_read_only(root: &Path) -> Result<(), RestoreError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty()).map_err(at("open", root))?;
    MountChange::new()
        .attributes(MountAttrFlags::MOUNT_ATTR_RDONLY, MountAttrFlags::empty())
        .apply(&opened, Reach::Single)
        .map_err(at("make read-only", root))?;
    Ok(())
}

/// Makes a container's root ready for another runtime to restore it: as that leaves the root to criu, a read-only one has
/// to be that before.
///
/// # Errors
/// See [`RestoreError`].
pub fn prepare_root(bundle: &Path) -> Result<(), RestoreError> {
    let bundle = Bundle::load(bundle)?;
    if bundle.root_read_only {
        make_mount_points(&bundle)?;
        make_read_only(&bundle.root_path)?;
    }
    Ok(())
}

fn args(
    request: &RestoreRequest<'_>,
    bundle: &Bundle,
    root: &Path,
    namespaces: &NamespacePlan,
    cgroup: &Cgroup,
) -> Result<Vec<OsString>, RestoreError> {
    let mut args: Vec<OsString> = vec!["restore".into()];
    for (flag, value) in [
        ("--images-dir", request.images),
        ("--work-dir", request.work),
        ("--log-file", Path::new("restore.log")),
        ("--pidfile", Path::new("pid")),
        ("--root", root),
    ] {
        args.push(flag.into());
        args.push(value.into());
    }
    args.extend(
        [
            "-v4",
            "--restore-detached",
            "--file-locks",
            "--evasive-devices",
        ]
        .map(OsString::from),
    );
    for (kind, key) in [
        (LinuxNamespaceType::Network, "extRootNetNS"),
        (LinuxNamespaceType::Pid, "extRootPidNS"),
    ] {
        if let Some(joined) = namespaces.joins(kind) {
            let number = joined.fd.as_raw_fd();
            keep_on_exec(number).map_err(at("pass on", &joined.path))?;
            args.push("--inherit-fd".into());
            args.push(format!("fd[{number}]:{key}").into());
        }
    }
    for (number, target) in streams(request.images)?.iter().enumerate() {
        if target.starts_with("pipe:") {
            args.push("--inherit-fd".into());
            args.push(format!("fd[{number}]:{target}").into());
        }
    }
    for (key, source) in external_mounts(bundle, cgroup)? {
        args.push("--external".into());
        let mut value = OsString::from(format!("mnt[{key}]:"));
        value.push(source);
        args.push(value);
    }
    if Path::new(OPTIONS_FILE).exists() {
        args.push("--config".into());
        args.push(OPTIONS_FILE.into());
    }
    Ok(args)
}

/// Where the standard streams led.
fn streams(images: &Path) -> Result<Vec<String>, RestoreError> {
    let path = images.join("descriptors.json");
    let bytes = read_limited(&path, DESCRIPTORS_LIMIT)?;
    let streams: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|_| RestoreError::Odd { path: path.clone() })?;
    match streams.len() {
        3 => Ok(streams),
        _ => Err(RestoreError::Odd { path }),
    }
}

/// What is mounted from outside, by the names that the checkpoint has for it.
fn external_mounts(
    bundle: &Bundle,
    cgroup: &Cgroup,
) -> Result<Vec<(String, PathBuf)>, RestoreError> {
    let table = read_to_string_limited("/proc/self/mountinfo", MOUNT_TABLE_LIMIT)?;
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    let null = || PathBuf::from("/dev/null");
    // What is hidden, by either name.
    let hidden = bundle.linux.masked_paths().iter().flatten();
    let mut found: Vec<_> = hidden.map(|place| (place.clone(), null())).collect();
    found.push(("/dev/null".to_owned(), null()));
    for mount in mounts {
        let place: PathBuf = mount.destination().components().collect();
        if matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
            if let CgroupLayout::Legacy { hierarchies, .. } = CgroupLayout::host()? {
                for hierarchy in hierarchies {
                    let name = hierarchy.mount_point.file_name().unwrap_or_default();
                    let own = hierarchy.mount_point.join(cgroup.path().directory());
                    found.push((place.join(name).display().to_string(), own));
                }
            }
            continue;
        }
        let Some(source) = source_of(mount, bundle) else {
            continue;
        };
        // A mount in front of this place is found by the same name, and not looked at.
        for below in mounts_below(&table, &source) {
            let key = place.join(&below).display().to_string();
            found.push((key, source.join(below)));
        }
        found.push((place.display().to_string(), source));
    }
    Ok(found)
}

fn source_of(mount: &Mount, bundle: &Bundle) -> Option<PathBuf> {
    is_bind(mount).then_some(())?;
    Some(bundle.directory.join(mount.source().as_ref()?))
}

/// What is mounted below a directory of the node, relative to it.
fn mounts_below(table: &str, directory: &Path) -> Vec<PathBuf> {
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below = places.filter_map(|place| {
        let place = PathBuf::from(unescape(place));
        Some(place.strip_prefix(directory).ok()?.to_owned())
    });
    below
        .filter(|below| !below.as_os_str().is_empty())
        .collect()
}

/// Makes the places that things are mounted at, as a creation does: in the root, or in the directory of the node that is
/// mounted above them. What a file system of the container's own holds comes with the checkpoint.
fn make_mount_points(bundle: &Bundle) -> Result<(), RestoreError> {
    if bundle.root_read_only {
        // criu moves the old root through it, and would make a place of its own where there is none.
        InRoot::open(&bundle.root_path)?.mkdir_all("tmp", 0o1777)?;
    }
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    for mount in mounts {
        let place = mount.destination();
        let kind = match source_of(mount, bundle) {
            Some(source) if !source.is_dir() => FileType::RegularFile,
            _ => FileType::Directory,
        };
        let above = mounts
            .iter()
            .filter(|other| other.destination() != place && place.starts_with(other.destination()))
            .max_by_key(|other| other.destination().components().count());
        match above {
            None => {
                let inner = place.strip_prefix("/").unwrap_or(place);
                mount_point(&InRoot::open(&bundle.root_path)?, inner, kind)?;
            }
            Some(above) => {
                let Some(source) = source_of(above, bundle) else {
                    continue;
                };
                let inner = place.strip_prefix(above.destination()).unwrap_or(place);
                mount_point(&InRoot::open(source)?, inner, kind)?;
            }
        }
    }
    Ok(())
}

fn read_pid(path: &Path) -> Result<Pid, RestoreError> {
    let text = read_to_string_limited(path, 64)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| RestoreError::Odd {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_found_by_their_place_in_it() {
        let table = "\
1 0 0:1 / / rw - ext4 /dev/vda rw
2 1 0:2 / /srv/vol rw - ext4 /dev/vdb rw
3 2 0:3 / /srv/vol/a\\040b/c rw - tmpfs tmpfs rw
4 1 0:4 / /srv/volume rw - tmpfs tmpfs rw
";
        let below = |directory: &str| mounts_below(table, Path::new(directory));
        assert_eq!(below("/srv/vol"), [PathBuf::from("a b/c")]);
        assert_eq!(below("/srv").len(), 3);
        assert!(below("/srv/volume").is_empty());
    }
}
