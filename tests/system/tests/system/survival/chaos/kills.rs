//! Whom to kill, and how to find them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crioxide_test_support::waiting::{LIMIT, scaled};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Daemon,
    Monitor,
    /// Whatever a monitor or conmon runs beside containers: runc, the child that makes a container, an exec.
    Runtime,
    Container,
}

impl Victim {
    pub(super) const ALL: [Self; 4] = [Self::Daemon, Self::Monitor, Self::Runtime, Self::Container];
}

/// How long to look for a runtime: it may not be there at all.
const LOOK: Duration = Duration::from_millis(200);

/// A process to kill, or a description of it.
#[derive(Debug)]
pub(super) enum Aim {
    Process {
        victim: Victim,
        pid: i32,
        container: String,
    },
    Runtime {
        base: String,
        monitors: Vec<i32>,
        spare: Vec<i32>,
    },
    Nobody,
}

impl Aim {
    /// Kills it and sees it dead; `false` when there was nobody.
    pub(super) async fn kill(&self) -> Result<bool> {
        match self {
            Self::Nobody => Ok(false),
            Self::Process { pid, .. } => kill(*pid).await,
            Self::Runtime {
                base,
                monitors,
                spare,
            } => {
                let started = Instant::now();
                while started.elapsed() < LOOK {
                    let found = processes().into_iter().find(|pid| {
                        !spare.contains(pid)
                            && (parent(*pid).is_some_and(|parent| monitors.contains(&parent))
                                || is_runtime(*pid, base))
                    });
                    if let Some(pid) = found {
                        return kill(pid).await;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(false)
            }
        }
    }
}

async fn kill(pid: i32) -> Result<bool> {
    let Some(process) =
        Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return Ok(false);
    };
    if pidfd_send_signal(&process, Signal::KILL).is_err() {
        return Ok(false);
    }
    let limit = Timespec::try_from(scaled(LIMIT))?;
    let dead = tokio::task::spawn_blocking(move || {
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))
    });
    ensure!(dead.await?? == 1, "{pid} does not die");
    Ok(true)
}

pub(super) fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub(super) fn parent(pid: i32) -> Option<i32> {
    crate::survival::restart::parent_of(pid).ok()
}

/// A program called by our node's runtime root.
fn is_runtime(pid: i32, base: &str) -> bool {
    let folder = Path::new("/proc").join(pid.to_string());
    let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let known = ["runc", "crun", "youki"]
        .iter()
        .any(|known| name.starts_with(known));
    known && String::from_utf8_lossy(&line).contains(&format!("{base}/oci"))
}

/// Living processes in the cgroup of a container; zombies are nobody.
pub(super) fn members(container: &str) -> Vec<i32> {
    let group = format!("/crio-{container}");
    processes()
        .into_iter()
        .filter(|pid| {
            let folder = Path::new("/proc").join(pid.to_string());
            let groups = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
            let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
            groups.lines().any(|line| line.ends_with(&group)) && !status.contains("State:\tZ")
        })
        .collect()
}
