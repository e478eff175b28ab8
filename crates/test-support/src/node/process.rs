//! The daemon as a child process.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Place;
use crate::waiting::{LIMIT, scaled};

#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    pid: u32,
}

impl Daemon {
    /// Starts the program, in the network namespace at `netns` when one is given.
    pub(super) fn start(program: &Path, place: &Place, netns: Option<&Path>) -> Result<Self> {
        let path = place.log();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open `{}`", path.display()))?;
        let etc = place.base().join("etc");
        let mut command = match netns {
            Some(netns) => {
                // It becomes the program, and keeps its process id.
                let mut command = Command::new("nsenter");
                let mut option = std::ffi::OsString::from("--net=");
                option.push(netns);
                command.arg(option).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        let child = command
            .arg("--config")
            .arg(place.conf())
            .args(["--config-dir", ""])
            .arg("--registries-conf")
            .arg(etc.join("registries.conf"))
            .arg("--registries-conf-dir")
            .arg(etc.join("registries.conf.d"))
            .env("CONTAINERS_STORAGE_CONF", etc.join("storage.conf"))
            .env("CRIOXIDE_CNI_CACHE_DIR", place.cni_cache())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start `{}`", program.display()))?;
        let pid = child
            .id()
            .context("the daemon just started has a process id")?;
        Ok(Self { child, pid })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for an end that nobody asked for; the answer says how it came.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow!("the daemon ended: {status}"),
            Err(error) => anyhow!("look after the daemon: {error}"),
        }
    }

    pub(super) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill the daemon")
    }

    pub(super) async fn terminate(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process(pid, Signal::TERM).context("end the daemon")?;
        let status = tokio::time::timeout(scaled(LIMIT), self.child.wait())
            .await
            .context("the daemon did not end after SIGTERM")?
            .context("wait for the daemon")?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}
