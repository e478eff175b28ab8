//! What became of a container that no monitor can tell of: its exit file, or its process in /proc.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crioxide_engine::ports::{ExitReport, MonitorReport, PortError, ProcessId, RecordDirs};
use crioxide_files::read_to_string_limited;
use crioxide_names::ContainerId;
use tokio::io::{Interest, unix::AsyncFd};

/// Looks for an exit file, then for the process.
pub(super) fn look(
    id: &ContainerId,
    exit_file: &Path,
    dirs: &RecordDirs,
    init: &ProcessId,
) -> Result<MonitorReport, PortError> {
    for path in [exit_file, &dirs.persistent.join("exit")] {
        if let Some((exit_code, finished_at)) = read_exit(path)? {
            let oom_killed = dirs.run.join("oom").exists() || dirs.persistent.join("oom").exists();
            let exit = ExitReport {
                id: id.clone(),
                exit_code: Some(exit_code),
                oom_killed,
                finished_at,
            };
            return Ok(MonitorReport::Exited(exit));
        }
    }
    match start_time(init.pid) {
        Some(start_time) if init.pid > 0 && start_time == init.start_time => {
            Ok(MonitorReport::Alive { monitored: false })
        }
        _ => Ok(MonitorReport::Lost),
    }
}

/// Exit code and the file's change time, which is the time of the exit.
fn read_exit(path: &Path) -> Result<Option<(i32, i64)>, PortError> {
    let text = match read_to_string_limited(path, 64) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let code = text
        .trim()
        .parse()
        .map_err(|_| format!("exit file {} does not hold a number", path.display()))?;
    let metadata = std::fs::metadata(path)?;
    Ok(Some((
        code,
        metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
    )))
}

/// Field 22 of /proc/pid/stat; `None` when there is no such process, or only what is left of it (a zombie).
pub(super) fn start_time(pid: i32) -> Option<String> {
    let stat = read_to_string_limited(format!("/proc/{pid}/stat"), 4096).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe for descriptors that may be swapped, which an OwnedFd is not"
)]
/// Returns when the process has ended, or if it never was the one meant.
pub(super) async fn ended(process: &ProcessId) -> std::io::Result<()> {
    let Some(pid) = rustix::process::Pid::from_raw(process.pid) else {
        return Ok(());
    };
    let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The descriptor is of whatever has the number now; the start time tells whether that is the one.
    if start_time(process.pid).as_deref() != Some(process.start_time.as_str()) {
        return Ok(());
    }
    AsyncFd::with_interest(pidfd, Interest::READABLE)?
        .readable()
        .await?
        .retain_ready();
    Ok(())
}

/// Now, Unix nanoseconds.
pub(super) fn now() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(root: &Path) -> RecordDirs {
        RecordDirs {
            persistent: root.to_owned(),
            run: root.to_owned(),
        }
    }

    #[test]
    fn exit_files_tell_code_and_time() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::generate();
        std::fs::write(root.path().join("exit"), "137").unwrap();
        std::fs::write(root.path().join("oom"), "").unwrap();
        let report = look(
            &id,
            &root.path().join("none"),
            &dirs(root.path()),
            &ProcessId::default(),
        )
        .unwrap();
        let MonitorReport::Exited(exit) = report else {
            panic!("{report:?}")
        };
        assert_eq!(exit.exit_code, Some(137));
        assert!(exit.oom_killed && exit.finished_at > 1_600_000_000_000_000_000);
    }

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::generate();
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = ProcessId {
            pid,
            start_time: start_time(pid).unwrap(),
        };
        let look_for = |process: &ProcessId| {
            look(&id, &root.path().join("none"), &dirs(root.path()), process).unwrap()
        };
        assert!(matches!(
            look_for(&me),
            MonitorReport::Alive { monitored: false }
        ));
        let other = ProcessId {
            start_time: "1".into(),
            ..me
        };
        assert!(matches!(look_for(&other), MonitorReport::Lost));
    }
}
