//! One container under the monitor, from its creation to its removal.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crioxide_cgroups::{Cgroup, OomWatch};
use crioxide_monitor_protocol::{
    ContainerReport, ExitReport, KeepStdio, MAX_PACKET, RuntimeCommand, StdinMode,
};

use crate::children::oom::Kills;
use crate::control::Fifo;
use crate::streams::attach::Attach;
use crate::streams::log::{LogFile, Stream};
use crate::streams::stdio::{Read, Stdio};
use crate::watcher::{ContainerKey, Source, Token, Watcher};

/// Size of one read: what a pipe holds, and a packet of the daemon's.
pub(crate) const READ_SIZE: usize = 64 * 1024;
const _: () = assert!(READ_SIZE >= MAX_PACKET);

/// Reads of one output before others get their turn.
const READS_PER_TURN: usize = 2;

/// How long something that outlives the container's first process may keep its output open before the end is reported.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);

/// How often a terminal that nobody has open is looked at.
pub(crate) const HANG_UP_PAUSE: Duration = Duration::from_millis(100);

/// How often a log that is behind is tried again.
pub(crate) const LOG_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where in its life a container is.
pub(crate) enum Phase {
    /// The runtime is at work.
    Creating,
    /// Created or running.
    Live,
    /// Its first process ended, its output not yet.
    Draining { exit: ExitReport, until: Instant },
    /// Over and reported.
    Exited(ExitReport),
}

/// Where a console socket is waiting for the terminal's master.
pub(crate) struct Console {
    pub(crate) listener: OwnedFd,
    pub(crate) token: Option<Token>,
    pub(crate) path: PathBuf,
}

/// One container.
pub(crate) struct Container {
    pub(crate) key: ContainerKey,
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) phase: Phase,
    pub(crate) bundle: PathBuf,
    pub(crate) persist_dir: PathBuf,
    pub(crate) exit_dir: PathBuf,
    /// What made it; `None` if a shim does, which also watches it.
    pub(crate) runtime: Option<RuntimeCommand>,
    pub(crate) stdin_mode: StdinMode,
    /// It is a shim's, and its stdin was closed.
    pub(crate) stdin_closed: bool,
    pub(crate) sync_log: bool,
    pub(crate) stdio: Stdio,
    pub(crate) log: LogFile,
    pub(crate) attach: Attach,
    pub(crate) control: Fifo,
    pub(crate) window_size: Fifo,
    pub(crate) console: Option<Console>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) oom_watch: Option<(OomWatch, Option<Token>)>,
    pub(crate) kills: Kills,
    pub(crate) hung_up_until: Option<Instant>,
    pub(crate) log_retry_at: Option<Instant>,
}

impl Container {
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Exited(_))
    }

    pub(crate) fn report(&self) -> Option<ContainerReport> {
        let exit = match &self.phase {
            Phase::Creating => return None,
            Phase::Live | Phase::Draining { .. } => None,
            Phase::Exited(exit) => Some(*exit),
        };
        Some(ContainerReport {
            id: self.id.clone(),
            pid: self.pid,
            exit,
            stdin_closed: self.stdin_closed,
        })
    }

    /// Starts listening to everything, once the runtime made the container.
    pub(crate) fn go_live(&mut self, pid: i32, watcher: &mut Watcher) -> std::io::Result<()> {
        self.pid = pid;
        self.phase = Phase::Live;
        for output in &mut self.stdio.outputs {
            output.watch(self.key, watcher)?;
        }
        self.attach.watch(watcher)?;
        self.control.watch(Source::Control, self.key, watcher)?;
        self.window_size
            .watch(Source::WindowSize, self.key, watcher)?;
        if let Some(watch) = self
            .cgroup
            .as_ref()
            .and_then(|group| group.watch_oom().ok())
        {
            let events = if watch.interest().contains(rustix::event::PollFlags::PRI) {
                rustix::event::epoll::EventFlags::PRI
            } else {
                rustix::event::epoll::EventFlags::IN
            };
            let token = watcher.add_for(&watch, Source::Oom(self.key), events)?;
            self.oom_watch = Some((watch, Some(token)));
        }
        Ok(())
    }

    /// Takes what an output has, for a bounded time. `true` when it is open still.
    pub(crate) fn read_output(
        &mut self,
        stream: Stream,
        watcher: &mut Watcher,
        buffer: &mut [u8],
    ) -> bool {
        let ended = !matches!(self.phase, Phase::Live | Phase::Creating);
        let Some(at) = self
            .stdio
            .outputs
            .iter()
            .position(|output| output.stream == stream)
        else {
            return false;
        };
        for _ in 0..READS_PER_TURN {
            match self.stdio.outputs[at].read(buffer) {
                Read::Bytes(count) => self.deliver(stream, &buffer[..count], watcher),
                Read::Nothing => return true,
                Read::HungUp if !ended => {
                    self.stdio.outputs[at].unwatch(watcher);
                    self.hung_up_until = Some(Instant::now() + HANG_UP_PAUSE);
                    return true;
                }
                Read::HungUp | Read::End => {
                    let mut output = self.stdio.outputs.remove(at);
                    output.unwatch(watcher);
                    return false;
                }
            }
        }
        true
    }

    /// Looks again at a terminal that was hung up.
    pub(crate) fn watch_again(&mut self, watcher: &mut Watcher) {
        self.hung_up_until = None;
        for output in &mut self.stdio.outputs {
            // Failing means no memory for the registration: the next look is as good.
            if output.watch(self.key, watcher).is_err() {
                self.hung_up_until = Some(Instant::now() + HANG_UP_PAUSE);
            }
        }
    }

    /// Takes everything the outputs have at this moment. `true` when all of them have ended.
    pub(crate) fn drain(&mut self, watcher: &mut Watcher, buffer: &mut [u8]) -> bool {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A pipe holds 64 KiB, or what a process made it, at most 1 MiB: this takes all that was there.
            for _ in 0..16 {
                if !self.read_output(stream, watcher, buffer) {
                    break;
                }
            }
        }
        self.stdio.outputs.is_empty()
    }

    /// Its first process ended.
    pub(crate) fn begin_draining(&mut self, exit: ExitReport) {
        self.phase = Phase::Draining {
            exit,
            until: Instant::now() + DRAIN_PATIENCE,
        };
    }

    /// Passes a client's input on; `end` when it was the client's last.
    pub(crate) fn input(&mut self, bytes: &[u8], watcher: &mut Watcher) {
        let Some(stdin) = &mut self.stdio.stdin else {
            return;
        };
        if stdin.write(self.key, bytes, watcher).is_err() {
            self.close_stdin(watcher);
            return;
        }
        let full = stdin.is_full();
        self.attach.set_paused(full, watcher);
    }

    /// There is room again in the container's stdin.
    pub(crate) fn input_ready(&mut self, watcher: &mut Watcher) {
        let Some(stdin) = &mut self.stdio.stdin else {
            return;
        };
        if stdin.flush(self.key, watcher).is_err() {
            self.close_stdin(watcher);
        } else if !stdin.is_full() {
            self.attach.set_paused(false, watcher);
        }
    }

    /// A client's input ended.
    pub(crate) fn input_ended(&mut self, watcher: &mut Watcher) {
        let once = self
            .stdio
            .stdin
            .as_ref()
            .is_some_and(|stdin| stdin.mode == StdinMode::Once);
        if once && self.stdio.terminal.is_none() {
            self.end_stdin(watcher);
        }
    }

    /// Ends stdin after what waits has been written.
    pub(crate) fn end_stdin(&mut self, watcher: &mut Watcher) {
        if self
            .stdio
            .stdin
            .as_mut()
            .is_some_and(|stdin| stdin.end_soon())
        {
            self.close_stdin(watcher);
        }
    }

    fn close_stdin(&mut self, watcher: &mut Watcher) {
        if let Some(mut stdin) = self.stdio.stdin.take() {
            stdin.unwatch(watcher);
        }
        self.attach.set_paused(false, watcher);
    }

    /// Gives back all descriptors, keeping files that a conmon would leave.
    pub(crate) fn close(&mut self, watcher: &mut Watcher) {
        self.attach.close(watcher);
        self.control.close(watcher);
        self.window_size.close(watcher);
        self.close_stdin(watcher);
        self.stop_watching_oom(watcher);
        self.close_console(watcher);
    }

    /// Closes the outputs too and removes every file of ours but log and records.
    pub(crate) fn dismantle(&mut self, watcher: &mut Watcher) {
        self.close(watcher);
        for mut output in self.stdio.outputs.drain(..) {
            output.unwatch(watcher);
        }
        self.stdio.remove_fifos();
        self.attach.remove_link();
        self.control.remove();
        self.window_size.remove();
        for name in ["pidfile", "conmon-pidfile"] {
            let _ = std::fs::remove_file(self.bundle.join(name));
        }
    }

    pub(crate) fn close_console(&mut self, watcher: &mut Watcher) {
        if let Some(mut console) = self.console.take() {
            if let Some(token) = console.token.take() {
                watcher.remove(&console.listener, token);
            }
            let _ = std::fs::remove_file(&console.path);
        }
    }

    pub(crate) fn stop_watching_oom(&mut self, watcher: &mut Watcher) {
        if let Some((watch, Some(token))) = self.oom_watch.take() {
            watcher.remove(&watch, token);
        }
    }

    fn deliver(&mut self, stream: Stream, bytes: &[u8], watcher: &mut Watcher) {
        self.log.write(stream, SystemTime::now(), bytes);
        if self.log.is_behind() && self.log_retry_at.is_none() {
            self.log_retry_at = Some(Instant::now() + LOG_RETRY_PAUSE);
        }
        self.attach.broadcast(stream, bytes, watcher);
    }
}

/// Whether a request can be taken as it is.
pub(crate) fn validate(request: &KeepStdio) -> Result<(), String> {
    let id = &request.id;
    if id.is_empty() || id.len() > 255 || id.starts_with('.') || id.contains(['/', '\0']) {
        return Err(format!("`{id}` cannot be a container id"));
    }
    let paths = [
        ("bundle", &request.bundle),
        ("log path", &request.log.path),
        ("exit directory", &request.exit_dir),
        ("persistent directory", &request.persist_dir),
        ("attach socket directory", &request.attach_socket_dir),
    ];
    match paths.iter().find(|(_, path)| !path.is_absolute()) {
        Some((what, path)) => Err(format!("the {what} `{}` is not absolute", path.display())),
        None => Ok(()),
    }
}
