//! What became of a container that no monitor can tell of: its exit file, or its process in /proc.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crioxide_engine::ports::{ExitReport, MonitorReport, PortError, ProcessId, RecordDirs};
use crioxide_files::read_to_string_limited;
use crioxide_monitor_client::conmon;
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

/// As [`look`], but while a conmon watches, nothing is lost: it may be about to write the exit file.
pub(super) fn look_with_conmon(
    id: &ContainerId,
    exit_file: &Path,
    dirs: &RecordDirs,
    init: &ProcessId,
) -> Result<MonitorReport, PortError> {
    // Asked first: what a conmon that has ended wrote is there by now.
    let watched = conmon::find(&dirs.run, id.as_str()).is_some();
    match look(id, exit_file, dirs, init)? {
        MonitorReport::Lost if watched => Ok(MonitorReport::Alive { monitored: true }),
        report => Ok(report),
    }
}

/// The exit code of a process that has ended and that its parent, a monitor that does not run, has not reaped.
pub(super) fn unreaped(process: &ProcessId) -> Option<i32> {
    let stat = read_to_string_limited(format!("/proc/{}/stat", process.pid), 4096).ok()?;
    exit_in_stat(&stat, &process.start_time)
}

fn exit_in_stat(stat: &str, start_time: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.trim_end().split(' ').collect();
    // Counted from field 3: the state, the start time, and how it ended as wait(2) tells it.
    let (state, started, ended) = (fields.first()?, fields.get(19)?, fields.get(49)?);
    if *state != "Z" || *started != start_time {
        return None;
    }
    let status: i32 = ended.parse().ok()?;
    Some(match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    })
}

/// What a process does, for people.
pub(super) fn describe(process: &ProcessId) -> Option<String> {
    if start_time(process.pid)? != process.start_time {
        return None;
    }
    let status = read_to_string_limited(format!("/proc/{}/status", process.pid), 16384).ok()?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let wchan = read_to_string_limited(format!("/proc/{}/wchan", process.pid), 256);
    let waits = match wchan.as_deref().map(str::trim) {
        Ok("" | "0") | Err(_) => String::new(),
        Ok(function) => format!(", waiting in {function}"),
    };
    Some(format!(
        "process {} ({}) is in state {}{waits}",
        process.pid,
        field("Name:").unwrap_or("?"),
        field("State:").unwrap_or("?"),
    ))
}

/// Signals the process itself.
pub(super) fn signal(process: &ProcessId, signal: i32) -> std::io::Result<()> {
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let pid = rustix::process::Pid::from_raw(process.pid).ok_or_else(gone)?;
    let signal = rustix::process::Signal::from_named_raw(signal)
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    // The descriptor is of whatever has the number now; the start time tells whether that is the one.
    if start_time(process.pid).as_deref() != Some(process.start_time.as_str()) {
        return Err(gone());
    }
    Ok(rustix::process::pidfd_send_signal(&pidfd, signal)?)
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
    fn a_conmon_that_lives_is_about_to_tell() {
        use std::os::unix::process::CommandExt as _;
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::generate();
        let (none, dirs) = (root.path().join("none"), dirs(root.path()));
        let told = || look_with_conmon(&id, &none, &dirs, &ProcessId::default()).unwrap();
        let mut conmon = std::process::Command::new("sh")
            .arg0("conmon")
            .args(["-c", "read x", id.as_str()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = conmon.id().to_string();
        std::fs::write(root.path().join("conmon-pidfile"), pid).unwrap();
        assert!(matches!(told(), MonitorReport::Alive { monitored: true }));
        std::fs::write(root.path().join("exit"), "5").unwrap();
        assert!(matches!(told(), MonitorReport::Exited(_)));
        std::fs::remove_file(root.path().join("exit")).unwrap();
        drop(conmon.stdin.take());
        conmon.wait().unwrap();
        assert!(matches!(told(), MonitorReport::Lost));
    }

    #[test]
    fn a_process_that_nobody_reaps_tells_how_it_ended() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = ProcessId {
            pid,
            start_time: start_time(pid).unwrap(),
        };
        assert_eq!(unreaped(&process), None);
        assert!(describe(&process).unwrap().contains("(sh) is in state"));
        drop(child.stdin.take());
        let handle = rustix::process::Pid::from_raw(pid);
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(handle.unwrap()), options).unwrap();
        assert_eq!(unreaped(&process), Some(7));
        let other = ProcessId {
            start_time: "1".into(),
            ..process.clone()
        };
        assert_eq!(unreaped(&other), None);
        assert!(signal(&other, 9).is_err());
        child.wait().unwrap();
        assert_eq!((unreaped(&process), describe(&process)), (None, None));
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
