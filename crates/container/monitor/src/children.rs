//! Processes that ended: runtimes, containers, execs, and orphans nobody asked for.

pub(crate) mod oom;

use crioxide_monitor_protocol::Event;
use crioxide_sys::reap::{Ending, Reaped, reap_next};

use crate::container::Phase;
use crate::exit;
use crate::monitor::Monitor;
use crate::runtime::child::Purpose;
use crate::watcher::ContainerKey;

/// Orphans remembered while a runtime is at work; a pod that makes more in that time only loses the oldest.
const MOST_EARLY_ENDINGS: usize = 1024;

impl Monitor {
    /// Reads the signal descriptor and reaps whatever ended.
    pub(crate) fn take_signals(&mut self) {
        while let Ok(Some(_)) = self.signals.read() {}
        while let Ok(Reaped::Child(pid, ending)) = reap_next() {
            self.process_ended(pid.as_raw_nonzero().get(), ending);
        }
        if self.children.is_empty() {
            self.early_endings = Vec::new();
        }
    }

    fn process_ended(&mut self, pid: i32, ending: Ending) {
        if let Some(at) = self
            .children
            .iter()
            .position(|child| child.pid.as_raw_nonzero().get() == pid)
        {
            let child = self.children.swap_remove(at);
            match child.purpose {
                Purpose::Create { .. } => self.create_ended(child, ending),
                Purpose::CleanUp { .. } => self.clean_up_ended(child),
                Purpose::Exec { .. } => self.exec_runtime_ended(child, ending),
            }
            return;
        }
        let is_init = |phase: &Phase| matches!(phase, Phase::Live);
        let container = self
            .containers
            .values()
            .find(|c| c.pid == pid && is_init(&c.phase))
            .map(|c| c.key);
        if let Some(key) = container {
            self.container_ended(key, ending);
        } else if let Some(at) = self.execs.iter().position(|exec| exec.pid == pid) {
            let exec = self.execs.swap_remove(at);
            let exit = exit::report(ending, false);
            let event = Event::ExecExited {
                container: exec.container,
                exec: exec.name,
                exit,
            };
            self.clients.tell(&event, &mut self.watcher);
        } else if !self.children.is_empty() {
            if self.early_endings.len() >= MOST_EARLY_ENDINGS {
                self.early_endings.remove(0);
            }
            self.early_endings.push((pid, ending));
        }
    }

    /// How `pid` ended, if it ended before it was known.
    pub(crate) fn take_early_ending(&mut self, pid: i32) -> Option<Ending> {
        let at = self
            .early_endings
            .iter()
            .position(|(early, _)| *early == pid)?;
        Some(self.early_endings.swap_remove(at).1)
    }

    /// A container's first process ended: memory is asked about first, while its cgroup exists.
    pub(crate) fn container_ended(&mut self, key: ContainerKey, ending: Ending) {
        self.check_oom_at_end(key);
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.stop_watching_oom(&mut self.watcher);
        container.begin_draining(exit::report(ending, container.kills.seen));
        if container.drain(&mut self.watcher, &mut self.buffer[..]) {
            self.finish_exit(key);
        }
    }

    /// The output is complete, or has been waited for long enough: records the exit and tells everybody.
    pub(crate) fn finish_exit(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Phase::Draining { exit, .. } = container.phase else {
            return;
        };
        container.log.retry();
        container.phase = Phase::Exited(exit);
        // Without the records a daemon that is away now asks the monitor itself later.
        let _ = exit::write_records(
            &container.persist_dir,
            &container.exit_dir,
            &container.id,
            exit.exit_code,
        );
        container.close(&mut self.watcher);
        let event = Event::Exited {
            id: container.id.clone(),
            exit,
        };
        self.clients.tell(&event, &mut self.watcher);
        if container.sync_log {
            let _ = container.log.sync();
        }
    }
}
