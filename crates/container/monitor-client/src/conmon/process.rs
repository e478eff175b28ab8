//! A running conmon: found by its pid file, and told from later processes of the same number.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Where conmon writes its process id.
pub(super) const PID_FILE: &str = "conmon-pidfile";

/// Most bytes of a command line that are looked at; conmon's has about one thousand.
const COMMAND_LINE_MAX: u64 = 64 << 10;

/// A conmon that runs.
#[derive(Debug)]
pub struct Conmon {
    /// Its process id.
    pub pid: i32,
    descriptor: OwnedFd,
}

/// The living conmon of a container; `None` when there is none, or the one who watches it is no conmon.
///
/// Its command line names the container, so that a later process with its number is not taken for it.
pub fn find(bundle: &Path, id: &str) -> Option<Conmon> {
    let text = read(&bundle.join(PID_FILE), 64)?;
    let pid: i32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    // What the file says is not ours: zero and negative numbers mean groups of processes.
    if pid <= 0 {
        return None;
    }
    let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
    let command = read(Path::new(&format!("/proc/{pid}/cmdline")), COMMAND_LINE_MAX)?;
    let mut words = command.split(|byte| *byte == 0);
    let program = words.next()?.rsplit(|byte| *byte == b'/').next()?;
    let named = words.any(|word| word == id.as_bytes());
    (named && program.starts_with(b"conmon")).then_some(Conmon { pid, descriptor })
}

impl Conmon {
    /// Ends it at once; the runtime that it may wait for goes with it.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }

    /// Returns when it has ended.
    ///
    /// # Errors
    /// It cannot be watched.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe for descriptors that may be swapped, which an OwnedFd is not"
    )]
    pub async fn ended(self) -> io::Result<()> {
        let watched = tokio::io::unix::AsyncFd::with_interest(
            self.descriptor,
            tokio::io::Interest::READABLE,
        )?;
        watched.readable().await?.retain_ready();
        Ok(())
    }
}

fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(limit)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_not_taken_for_it() {
        let bundle = tempfile::tempdir().unwrap();
        assert!(find(bundle.path(), "c1").is_none());
        // This very process lives and is no conmon.
        std::fs::write(bundle.path().join(PID_FILE), std::process::id().to_string()).unwrap();
        assert!(find(bundle.path(), "c1").is_none());
        for nonsense in ["", "-1", "0", "4194305", "x"] {
            std::fs::write(bundle.path().join(PID_FILE), nonsense).unwrap();
            assert!(find(bundle.path(), "c1").is_none(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn it_is_known_by_name_and_container() {
        let bundle = tempfile::tempdir().unwrap();
        let program = bundle.path().join("conmon");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program)
            .args(["600", "0"])
            .spawn()
            .unwrap();
        std::fs::write(bundle.path().join(PID_FILE), child.id().to_string()).unwrap();
        // The kernel lets the parent go on before the new program's arguments can be read.
        let command = format!("/proc/{}/cmdline", child.id());
        while std::fs::read(&command).unwrap().is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            tokio::task::yield_now().await;
        }
        assert!(find(bundle.path(), "other").is_none());
        let found = find(bundle.path(), "600").unwrap();
        assert_eq!(found.pid, i32::try_from(child.id()).unwrap());
        found.kill();
        found.ended().await.unwrap();
        child.wait().unwrap();
        assert!(find(bundle.path(), "600").is_none());
    }
}
