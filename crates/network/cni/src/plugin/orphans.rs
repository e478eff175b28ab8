//! Plugins that outlived the daemon that started them.
//!
//! A daemon that is killed inside ADD leaves its plugin running. It must not go on making what the
//! next daemon is about to remove.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crioxide_files::read_limited;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Attachment;

const ENVIRONMENT_LIMIT: u64 = 2 * 1024 * 1024;
/// How long a killed process may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills the processes that work on one of `attachments`: those with its container, interface and
/// namespace in their environment, which their own children inherit. Returns how many there were.
pub(crate) fn kill(attachments: &[&Attachment]) -> usize {
    if attachments.is_empty() {
        return 0;
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(Pid::from_raw);
    pids.filter(|pid| kill_if_plugin(*pid, attachments)).count()
}

fn kill_if_plugin(pid: Pid, attachments: &[&Attachment]) -> bool {
    let works_on_one = || {
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        read_limited(Path::new(&path), ENVIRONMENT_LIMIT)
            .is_ok_and(|environment| attachments.iter().any(|one| is_of(&environment, one)))
    };
    if !works_on_one() {
        return false;
    }
    // The number may have got a new owner meanwhile: look again while the process is held.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    if !works_on_one() || pidfd_send_signal(&process, Signal::KILL).is_err() {
        return false;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else {
            return true;
        };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// Whether an environment is that of a plugin for `attachment`.
fn is_of(environment: &[u8], attachment: &Attachment) -> bool {
    let has = |key: &str, value: &[u8]| {
        environment
            .split(|byte| *byte == 0)
            .filter_map(|variable| variable.strip_prefix(key.as_bytes()))
            .any(|found| found == value)
    };
    let netns = attachment.netns.as_deref().unwrap_or(Path::new(""));
    has("CNI_CONTAINERID=", attachment.container_id.as_bytes())
        && has("CNI_IFNAME=", attachment.ifname.as_bytes())
        && has("CNI_NETNS=", netns.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_plugins_of_the_attachment_are_killed() {
        let attachment = Attachment {
            container_id: format!("orphan-test-{}", std::process::id()),
            ifname: "eth0".to_owned(),
            netns: Some("/run/netns/orphan".into()),
            ..Attachment::nobody("net")
        };
        let start = |ifname: &str| {
            Command::new("sleep")
                .arg("600")
                .env("CNI_CONTAINERID", &attachment.container_id)
                .env("CNI_IFNAME", ifname)
                .env("CNI_NETNS", "/run/netns/orphan")
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        let (mut own, mut other) = (start("eth0"), start("eth1"));
        assert_eq!(kill(&[&attachment]), 1);
        assert_eq!(own.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(kill(&[&attachment]), 0);
    }
}
