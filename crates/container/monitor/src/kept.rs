//! Containers of shims: who makes and watches them is somebody else; their input and output are kept here, and their ends
//! are recorded and told as those of all others.

use crioxide_monitor_protocol::{Event, ExitReport, Failure, FailureKind, KeepStdio, StdinMode};

use crate::container::{Container, Phase};
use crate::exit;
use crate::monitor::Monitor;
use crate::serve::not_found;
use crate::streams::stdio::Stdio;
use crate::watcher::ContainerKey;

impl Monitor {
    /// Opens log, attach socket and the FIFOs for the shim.
    pub(crate) fn keep_stdio(&mut self, request: &KeepStdio) -> Result<(), Failure> {
        let stdio = || Stdio::fifos(request).map(|stdio| (stdio, ()));
        let (container, ()) = self.prepare(request, stdio)?;
        self.containers.insert(container.key, container);
        Ok(())
    }

    /// The container is there.
    pub(crate) fn kept_made(&mut self, id: &str, pid: i32) -> Result<(), Failure> {
        let key = self.kept(id)?;
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(not_found(id));
        };
        match container.phase {
            Phase::Creating => container
                .go_live(pid, &mut self.watcher)
                .map_err(|error| Failure::from_error(FailureKind::System, &error)),
            // Told twice, by two daemons.
            _ => Ok(()),
        }
    }

    /// The container has ended, or was not made.
    pub(crate) fn kept_ended(
        &mut self,
        id: &str,
        exit_code: i32,
        finished_at_ns: i64,
    ) -> Result<(), Failure> {
        let key = self.kept(id)?;
        self.check_oom_at_end(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return Err(not_found(id));
        };
        match container.phase {
            Phase::Creating => {
                container.dismantle(&mut self.watcher);
                container.log.remove();
                self.containers.remove(&key);
            }
            Phase::Live => {
                container.stop_watching_oom(&mut self.watcher);
                container.stdio.let_end();
                let oom_killed = saw_oom(container);
                container.begin_draining(ExitReport {
                    exit_code,
                    signal: None,
                    oom_killed,
                    finished_at_ns,
                });
                if container.drain(&mut self.watcher, &mut self.buffer[..]) {
                    self.finish_exit(key);
                }
            }
            Phase::Draining { .. } | Phase::Exited(_) => {}
        }
        Ok(())
    }

    /// A shim holds the FIFO of stdin open itself: that nobody types any more has to be told to it.
    pub(crate) fn tell_closed_stdin(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let closed = container.runtime.is_none()
            && container.stdin_mode != StdinMode::Closed
            && container.stdio.stdin.is_none();
        if closed && !container.stdin_closed {
            container.stdin_closed = true;
            let id = container.id.clone();
            let event = Event::StdinClosed { id };
            self.clients.tell(&event, &mut self.watcher);
        }
    }

    fn kept(&mut self, id: &str) -> Result<ContainerKey, Failure> {
        let container = self.find(id).ok_or_else(|| not_found(id))?;
        match container.runtime {
            None => Ok(container.key),
            Some(_) => Err(Failure::new(
                FailureKind::State,
                format!("container {id} is no shim's"),
            )),
        }
    }
}

/// Whether memory ran out: in its cgroup here, or in a guest, of which the shim leaves a mark in the bundle.
fn saw_oom(container: &mut Container) -> bool {
    if !container.kills.seen && container.bundle.join("oom").exists() {
        container.kills.seen = true;
        exit::mark_oom(&container.bundle, &container.persist_dir);
    }
    container.kills.seen
}
