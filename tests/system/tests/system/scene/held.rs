//! What the daemon holds: what grows while work comes and goes is lost.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::TestNode;
use crioxide_test_support::waiting::eventually;
use rustix::process::{Pid, Signal, kill_process};

/// Memory that may come on top of the first: caches fill and heaps break up.
const MEMORY: u64 = 32 * 1024;
/// The same for descriptors and tasks: a call of somebody else may be under way.
const FEW: usize = 2;

/// Descriptors, tasks and memory of a daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    descriptors: usize,
    tasks: usize,
    /// KiB.
    memory: u64,
}

impl Held {
    /// What it is now. The daemon counts its tasks itself.
    pub(crate) async fn now(node: &TestNode) -> Result<Self> {
        let pid = node.daemon_pid()?;
        let said = |log: &str| log.matches("tasks alive").count();
        let before = said(&node.log());
        let process = Pid::from_raw(pid.try_into()?).context("no pid")?;
        kill_process(process, Signal::USR1)?;
        let log = eventually("the daemon counts its tasks", async || {
            let log = node.log();
            ensure!(said(&log) > before, "it did not say");
            Ok(log)
        })
        .await?;
        let line = log.rfind("SIGUSR1: ").context("no line")?;
        let number = log[line + 9..].split(' ').next().context("no number")?;
        Ok(Self {
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            tasks: number.parse()?,
            memory: memory(pid)?,
        })
    }

    /// Waits until the daemon holds no more than this again, and says what it holds then.
    pub(crate) async fn again(&self, node: &TestNode) -> Result<Self> {
        eventually("the daemon holds what it held before", async || {
            let now = Self::now(node).await?;
            ensure!(
                now.descriptors <= self.descriptors + FEW
                    && now.tasks <= self.tasks + FEW
                    && now.memory < self.memory + MEMORY,
                "{now:?} after {self:?}"
            );
            Ok(now)
        })
        .await
    }
}

/// Memory that a process has in use, KiB.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}
