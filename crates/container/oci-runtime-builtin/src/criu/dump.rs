//! The state of a container's processes, written down by criu.
//!
//! What comes from outside the container is left out and named as runc names it, so that runc, too, finds it again: bind
//! mounts by their place, the pod's network namespace as `extRootNetNS`, its PID namespace as `extRootPidNS`. Where the
//! standard streams lead is in `descriptors.json` beside the images.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crioxide_files::{AtomicOptions, AtomicWriteError, ReadLimitedError, Sync, atomic_write};
use crioxide_oci_runtime::CheckpointRequest;
use oci_spec::runtime::{LinuxNamespaceType, Mount};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::bundle::{Bundle, BundleError};
use crate::record::ContainerRecord;

/// The largest mount table that is read.
pub(crate) const MOUNT_TABLE_LIMIT: u64 = 16 << 20;

/// Options that the administrator sets for runc's checkpoints hold for ours as well.
pub(crate) const OPTIONS_FILE: &str = "/etc/criu/runc.conf";

/// How often it is looked whether criu has ended.
const PATIENCE: Duration = Duration::from_millis(20);

/// Why the state was not written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Read(#[from] ReadLimitedError),
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    #[error("{action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("a container with {what} cannot be checkpointed by this runtime")]
    Unsupported { what: &'static str },
    #[error("`{} dump` failed with {status}", criu.display())]
    Failed { criu: PathBuf, status: ExitStatus },
    #[error("`{} dump` was killed after {}s without an end", criu.display(), timeout.as_secs())]
    TimedOut { criu: PathBuf, timeout: Duration },
}

/// Has criu write the processes below `pid` into the request's directories; they live on.
pub(crate) fn take(
    record: &ContainerRecord,
    pid: Pid,
    request: &CheckpointRequest,
) -> Result<(), CheckpointError> {
    let bundle = Bundle::load(&record.bundle)?;
    if bundle.process.terminal() == Some(true) {
        return Err(CheckpointError::Unsupported { what: "a terminal" });
    }
    let namespaces = bundle.linux.namespaces().clone().unwrap_or_default();
    let own_users = namespaces
        .iter()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    if own_users {
        return Err(CheckpointError::Unsupported {
            what: "a user namespace",
        });
    }
    save_descriptors(pid, &request.images)?;
    let mut args = general_args(record, pid, request);
    for namespace in &namespaces {
        let (kind, key) = match namespace.typ() {
            LinuxNamespaceType::Network => ("net", "extRootNetNS"),
            LinuxNamespaceType::Pid => ("pid", "extRootPidNS"),
            _ => continue,
        };
        if namespace.path().is_some() {
            let path = PathBuf::from(format!("/proc/{}/ns/{kind}", pid.as_raw_nonzero()));
            let number = fs::metadata(&path).map_err(io("look at", &path))?.ino();
            args.push("--external".into());
            args.push(format!("{kind}[{number}]:{key}").into());
        }
    }
    let path = PathBuf::from(format!("/proc/{}/mountinfo", pid.as_raw_nonzero()));
    let table = crioxide_files::read_to_string_limited(&path, MOUNT_TABLE_LIMIT)?;
    let mounts = bundle.spec.mounts().clone().unwrap_or_default();
    let masked = bundle.linux.masked_paths().clone().unwrap_or_default();
    for (place, name) in external_mounts(&table, &mounts, &masked) {
        args.push("--external".into());
        args.push(format!("mnt[{place}]:{name}").into());
    }
    run(&request.criu, &args, request.timeout)
}

fn general_args(record: &ContainerRecord, pid: Pid, request: &CheckpointRequest) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["dump".into()];
    for (flag, value) in [
        ("--tree", pid.as_raw_nonzero().to_string().into()),
        ("--images-dir", request.images.clone().into_os_string()),
        ("--work-dir", request.work.clone().into_os_string()),
        ("--log-file", "dump.log".into()),
        ("--root", record.rootfs.clone().into_os_string()),
    ] {
        args.push(flag.into());
        args.push(value);
    }
    args.extend(["-v4", "--leave-running", "--file-locks"].map(OsString::from));
    let freezer = record
        .cgroup()
        .and_then(|cgroup| cgroup.controller_directory("freezer"));
    if let Some(directory) = freezer {
        args.push("--freeze-cgroup".into());
        args.push(directory.into());
    }
    if Path::new(OPTIONS_FILE).exists() {
        args.push("--config".into());
        args.push(OPTIONS_FILE.into());
    }
    args
}

/// Where the standard streams lead, by which a restore gives them new ends.
fn save_descriptors(pid: Pid, images: &Path) -> Result<(), CheckpointError> {
    let mut targets = Vec::new();
    for number in 0..3 {
        let path = PathBuf::from(format!("/proc/{}/fd/{number}", pid.as_raw_nonzero()));
        // One that the program has closed leads nowhere.
        let target = fs::read_link(&path).unwrap_or_default();
        targets.push(target.to_string_lossy().into_owned());
    }
    let bytes = serde_json::to_vec(&targets).unwrap_or_default();
    let options = AtomicOptions {
        mode: 0o600,
        sync: Sync::None,
    };
    Ok(atomic_write(
        images.join("descriptors.json"),
        &bytes,
        options,
    )?)
}

/// The mounts of a container that lead outside: those that the specification binds, what was mounted below them on the
/// node, cgroups, and files hidden behind `/dev/null`; with the names by which a restore finds them.
fn external_mounts(table: &str, mounts: &[Mount], masked: &[String]) -> Vec<(String, String)> {
    let bound: Vec<&Path> = mounts
        .iter()
        .filter(|mount| is_bind(mount))
        .map(|mount| mount.destination().as_path())
        .collect();
    let mut found: Vec<(String, String)> = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let (Some(root), Some(place)) = (fields.nth(3), fields.next()) else {
            continue;
        };
        let place = unescape(place);
        let below_a_bind = bound
            .iter()
            .any(|bound| Path::new(&place).starts_with(bound));
        // Directories are hidden by a tmpfs of the container's own.
        let hidden_file = masked.contains(&place) && root.ends_with("null");
        let kind = fields.skip_while(|field| *field != "-").nth(1);
        // Version 2 has one mount, which criu makes again by itself.
        let cgroup = kind == Some("cgroup");
        let name = match hidden_file {
            true => "/dev/null",
            false if below_a_bind || cgroup => &place,
            false => continue,
        };
        if !found.iter().any(|(known, _)| *known == place) {
            found.push((place.clone(), name.to_owned()));
        }
    }
    found
}

pub(crate) fn is_bind(mount: &Mount) -> bool {
    let typed = mount.typ().as_deref() == Some("bind");
    let options = mount.options().iter().flatten();
    typed
        || options
            .into_iter()
            .any(|option| option == "bind" || option == "rbind")
}

/// A field of a mount table, whose odd characters are octal.
pub(crate) fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (byte, octal) {
            (b'\\', Some(value)) => {
                bytes.push(value);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn run(criu: &Path, args: &[OsString], timeout: Duration) -> Result<(), CheckpointError> {
    let mut child = Command::new(criu)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(io("run", criu))?;
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let criu = criu.to_owned();
                return Err(CheckpointError::Failed { criu, status });
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PATIENCE),
            Ok(None) => {
                end(&mut child);
                let criu = criu.to_owned();
                return Err(CheckpointError::TimedOut { criu, timeout });
            }
            Err(error) => {
                end(&mut child);
                return Err(io("wait for", criu)(error));
            }
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself meanwhile.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_outside_is_found_in_the_mount_table() {
        let table = "\
1 0 0:1 / / rw - overlay overlay rw
2 1 0:2 / /proc rw - proc proc rw
3 1 0:3 /r/resolv.conf /etc/resolv.conf rw - tmpfs tmpfs rw
4 1 0:4 /vol /data\\040dir rw - ext4 /dev/vda rw
5 4 0:5 / /data\\040dir/below rw - xfs /dev/vdb rw
6 2 0:6 /null /proc/kcore rw - devtmpfs devtmpfs rw
7 2 0:7 / /proc/acpi ro - tmpfs tmpfs ro
8 1 0:8 / /database rw - tmpfs tmpfs rw
9 1 0:9 / /sys/fs/cgroup ro - tmpfs tmpfs rw
10 9 0:10 /pod/c /sys/fs/cgroup/memory ro master:3 - cgroup cgroup rw,memory
";
        let bind = |place: &str| {
            let mut mount = Mount::default();
            mount.set_destination(place.into());
            mount.set_typ(Some("bind".into()));
            mount
        };
        let mut tmpfs = Mount::default();
        tmpfs.set_destination("/database".into());
        tmpfs.set_typ(Some("tmpfs".into()));
        let found = external_mounts(
            table,
            &[bind("/etc/resolv.conf"), bind("/data dir"), tmpfs],
            &["/proc/kcore".to_owned(), "/proc/acpi".to_owned()],
        );
        let found: Vec<_> = found
            .iter()
            .map(|(place, name)| (place.as_str(), name.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("/etc/resolv.conf", "/etc/resolv.conf"),
                ("/data dir", "/data dir"),
                ("/data dir/below", "/data dir/below"),
                ("/proc/kcore", "/dev/null"),
                ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"),
            ]
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let started = Instant::now();
        let sleep = run(
            Path::new("/bin/sleep"),
            &["600".into()],
            Duration::from_millis(50),
        );
        assert!(
            matches!(sleep, Err(CheckpointError::TimedOut { .. })),
            "{sleep:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(300));
        let fails = run(Path::new("/bin/false"), &[], Duration::from_secs(60));
        assert!(
            matches!(fails, Err(CheckpointError::Failed { .. })),
            "{fails:?}"
        );
    }
}
