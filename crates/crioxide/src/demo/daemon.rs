//! The demo's daemon: this program without a command, as a child process.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::timeout;

use super::place::Place;

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an end may take before it is forced.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running daemon, ours or one that a killed demo left.
#[derive(Debug)]
pub(super) struct Daemon {
    process: OwnedFd,
    has_ended: watch::Receiver<bool>,
    pid: Pid,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it. It is up when [`Self::ready`] says so.
    pub(super) fn start(place: &Place) -> anyhow::Result<(Self, UnixDatagram)> {
        let program = std::env::current_exe().context("find our own program")?;
        let path = place.log();
        let log = File::create(&path).with_context(|| format!("create `{}`", path.display()))?;
        let notify = place.base().join("notify");
        let listener = UnixDatagram::bind(&notify).context("listen for the daemon's readiness")?;
        let etc = place.base().join("etc");
        let child = Command::new(&program)
            .arg("--config")
            .arg(place.conf())
            .args(["--config-dir", ""])
            .arg("--registries-conf")
            .arg(etc.join("registries.conf"))
            .arg("--registries-conf-dir")
            .arg(etc.join("registries.conf.d"))
            .env("CONTAINERS_STORAGE_CONF", etc.join("storage.conf"))
            .env("CRIOXIDE_CNI_CACHE_DIR", place.base().join("cache"))
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            // Ctrl-C is for us: the daemon ends after its pod.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start `{}`", program.display()))?;
        let pid = Pid::from_child(&child);
        Ok((Self::of(pid, Some(child))?, listener))
    }

    /// The daemon that listens on `socket`, if one does. The kernel knows who that is.
    pub(super) fn of_socket(socket: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(stream) = std::os::unix::net::UnixStream::connect(socket) else {
            return Ok(None);
        };
        let pid = rustix::net::sockopt::socket_peercred(&stream)
            .context("ask who listens")?
            .pid;
        Self::of(pid, None).map(Some)
    }

    fn of(pid: Pid, child: Option<Child>) -> anyhow::Result<Self> {
        let process = pidfd_open(pid, PidfdFlags::empty()).context("watch the daemon")?;
        Ok(Self {
            has_ended: watch(&process)?,
            process,
            pid,
            child,
        })
    }

    async fn exited(&mut self) {
        // An error means that the watching thread is gone, which it is only after the end.
        let _ = self.has_ended.wait_for(|ended| *ended).await;
    }

    /// Waits until it serves.
    pub(super) async fn ready(&mut self, listener: &UnixDatagram) -> anyhow::Result<()> {
        let told = async {
            let mut message = [0; 512];
            loop {
                let length = listener
                    .recv(&mut message)
                    .await
                    .context("hear of the daemon's readiness")?;
                if message[..length]
                    .split(|byte| *byte == b'\n')
                    .any(|line| line == b"READY=1")
                {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            told = timeout(START_LIMIT, told) => told.context("the daemon does not get ready")?,
            end = self.ended() => Err(end),
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Waits for an end that nobody asked for; the answer says how it came.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        self.exited().await;
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => anyhow!("the daemon ended: {status}"),
            _ => anyhow!("the daemon ended"),
        }
    }

    /// Tells it to end and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        // One that has ended by itself cannot be told.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
        if timeout(END_LIMIT, self.exited()).await.is_err() {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
            let _ = timeout(END_LIMIT, self.exited()).await;
            bail!(
                "the daemon did not end within {} s and was killed",
                END_LIMIT.as_secs()
            );
        }
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let status = child.wait().context("wait for the daemon")?;
        if !status.success() {
            bail!("the daemon ended with {status}");
        }
        Ok(())
    }
}

/// Tells when the process has ended. A thread waits for it, which ends with it or with us.
fn watch(process: &OwnedFd) -> anyhow::Result<watch::Receiver<bool>> {
    let process = process.try_clone().context("watch the daemon")?;
    let (tell, told) = watch::channel(false);
    std::thread::spawn(move || {
        // What else poll could say of a valid descriptor is that it was interrupted.
        while poll(&mut [PollFd::new(&process, PollFlags::IN)], None).is_err() {}
        // Nobody may be listening any more.
        let _ = tell.send(true);
    });
    Ok(told)
}
