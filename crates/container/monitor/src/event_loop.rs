//! Waiting and dispatching.

use std::time::{Duration, Instant};

use rustix::event::epoll::Event;
use rustix::time::Timespec;

use crate::container::{LOG_RETRY_PAUSE, Phase};
use crate::control::Command;
use crate::monitor::Monitor;
use crate::streams::attach::Input;
use crate::watcher::{ContainerKey, Source};

/// How often a monitor with nothing to do looks whether its pod is still there.
const IDLE_PAUSE: Duration = Duration::from_secs(30);

/// Runs until the monitor is told to end or is of no use any more.
pub(crate) fn run(monitor: &mut Monitor) {
    let mut ready: Vec<Event> = Vec::with_capacity(32);
    while !monitor.finished {
        let timeout = monitor.next_deadline().map(|at| until(at, Instant::now()));
        if monitor.watcher.wait(timeout, &mut ready).is_err() {
            // Nothing useful can be done without a poll set, and spinning would harm the node.
            std::thread::sleep(Duration::from_secs(1));
        }
        // Ends of processes come last: what they wrote before belongs before their end.
        let (signals, others): (Vec<Event>, Vec<Event>) = ready
            .iter()
            .partition(|event| monitor.watcher.source(event) == Some(Source::Signals));
        for event in others.iter().chain(&signals) {
            if let Some(source) = monitor.watcher.source(event) {
                monitor.dispatch(source);
            }
        }
        monitor.run_timers(Instant::now());
    }
}

fn until(at: Instant, now: Instant) -> Timespec {
    let left = at.saturating_duration_since(now);
    Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    }
}

impl Monitor {
    fn dispatch(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => self.clients.accept(&self.listener, &mut self.watcher),
            Source::Client(number) => self.serve(number),
            Source::Output(key, stream) => {
                let Some(container) = self.containers.get_mut(&key) else {
                    return;
                };
                let open = container.read_output(stream, &mut self.watcher, &mut self.buffer[..]);
                if !open
                    && container.stdio.outputs.is_empty()
                    && matches!(container.phase, Phase::Draining { .. })
                {
                    self.finish_exit(key);
                }
            }
            Source::Stdin(key) => {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.input_ready(&mut self.watcher);
                }
                self.tell_closed_stdin(key);
            }
            Source::AttachListener(key) => {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.attach.accept(&mut self.watcher);
                }
            }
            Source::AttachClient(key, number) => self.read_attach_client(key, number),
            Source::Control(key) => self.run_commands(key, |container| container.control.read()),
            Source::WindowSize(key) => {
                self.run_commands(key, |container| container.window_size.read())
            }
            Source::Oom(key) => {
                self.check_oom(key);
            }
            Source::Console(key) => self.accept_console(key),
        }
    }

    fn read_attach_client(&mut self, key: ContainerKey, number: u32) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        match container.attach.read(number, &mut self.watcher) {
            Input::Nothing => {}
            Input::Bytes(bytes) => container.input(&bytes, &mut self.watcher),
            Input::End => container.input_ended(&mut self.watcher),
        }
        self.tell_closed_stdin(key);
    }

    fn run_commands(
        &mut self,
        key: ContainerKey,
        read: impl FnOnce(&mut crate::container::Container) -> Vec<Command>,
    ) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        for command in read(container) {
            // There is no way to answer on a FIFO; CRI-O sees success by the log file appearing.
            let _ = match command {
                Command::Resize { height, width } => container.stdio.resize(width, height),
                Command::ReopenLog => container.log.reopen(),
            };
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut consider = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        for child in self.children.iter().filter(|child| !child.timed_out) {
            consider(child.deadline);
        }
        for container in self.containers.values() {
            if let Phase::Draining { until, .. } = container.phase {
                consider(Some(until));
            }
            consider(container.hung_up_until);
            consider(container.log_retry_at);
        }
        if !self.has_living() {
            consider(Some(Instant::now() + IDLE_PAUSE));
        }
        next
    }

    fn run_timers(&mut self, now: Instant) {
        for child in &mut self.children {
            if !child.timed_out && child.deadline.is_some_and(|at| at <= now) {
                child.timed_out = true;
                child.kill();
            }
        }
        let mut over = Vec::new();
        for container in self.containers.values_mut() {
            if container.hung_up_until.is_some_and(|at| at <= now) {
                container.watch_again(&mut self.watcher);
            }
            if container.log_retry_at.is_some_and(|at| at <= now) {
                container.log_retry_at = if container.log.retry() {
                    None
                } else {
                    Some(now + LOG_RETRY_PAUSE)
                };
            }
            if matches!(container.phase, Phase::Draining { until, .. } if until <= now) {
                over.push(container.key);
            }
        }
        for key in over {
            self.finish_exit(key);
        }
        if !self.has_living() && self.clients.is_empty() && !self.has_pod() {
            self.finished = true;
        }
    }

    fn has_pod(&self) -> bool {
        self.config
            .socket
            .parent()
            .is_some_and(std::path::Path::is_dir)
    }
}
