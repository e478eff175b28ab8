//! The agents of containers' seccomp filters: they take the filters' descriptors from runtimes, refuse each call that is
//! held up, and tell of it.
//!
//! The daemon is the only one that holds these descriptors. When it ends, calls are no longer held up: they fail at
//! once, with the same error.

use std::{
    collections::HashMap,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use crioxide_confinement::seccomp::call_name;
use crioxide_engine::ports::{PortError, PortResult};
use crioxide_names::ContainerId;
use crioxide_sys::{
    messages::receive_packet,
    seccomp::notify::{self, HeldCall},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde_json::Value;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{BackendEvent, leftovers};

/// Longest message of a runtime, bytes; the state with all annotations is in it.
const MESSAGE_MAX: usize = 4 << 20;
/// How long a runtime may take to send it.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
/// Name of the filter's descriptor in it.
const FILTER: &str = "seccompFd";

/// Calls of one filter that are answered at once within a second; each further one waits for a [`PAUSE`], so that a
/// container that makes nothing but forbidden calls slows down itself and not the node.
const AT_ONCE: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// All agents, by container.
pub(super) struct FilterAgents {
    directory: PathBuf,
    events: mpsc::UnboundedSender<BackendEvent>,
    listening: Mutex<HashMap<ContainerId, Agent>>,
}

/// Ends with its value.
struct Agent(AbortHandle);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FilterAgents {
    /// No agent yet. Sockets of a former daemon are removed: nobody listens at them.
    pub(super) fn start(
        directory: PathBuf,
        events: mpsc::UnboundedSender<BackendEvent>,
    ) -> PortResult<Self> {
        leftovers::remove_tree(&directory)?;
        Ok(Self {
            directory,
            events,
            listening: Mutex::default(),
        })
    }

    /// Starts the agent of a container, and says where it listens.
    pub(super) fn listen(&self, id: &ContainerId) -> PortResult<PathBuf> {
        let path = self.directory.join(id.as_str());
        let mut listening = self
            .listening
            .lock()
            .expect("no holder of this lock panics");
        if listening.contains_key(id) {
            return Ok(path);
        }
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory);
        made.map_err(|error| format!("make {}: {error}", self.directory.display()))?;
        leftovers::remove(&path)?;
        let listener = UnixListener::bind(&path)
            .map_err(|error| format!("listen at {}: {error}", path.display()))?;
        let filters = Filters {
            id: id.clone(),
            events: self.events.clone(),
        };
        let task = tokio::spawn(async move { filters.take(listener).await });
        listening.insert(id.clone(), Agent(task.abort_handle()));
        Ok(path)
    }

    /// Ends the agent of a container; having none is no error.
    pub(super) fn leave(&self, id: &ContainerId) -> PortResult<()> {
        let mut listening = self
            .listening
            .lock()
            .expect("no holder of this lock panics");
        match listening.remove(id) {
            Some(_) => leftovers::remove(&self.directory.join(id.as_str())),
            None => Ok(()),
        }
    }
}

/// The filters of one container: one of its first process and one of each exec.
#[derive(Clone)]
struct Filters {
    id: ContainerId,
    events: mpsc::UnboundedSender<BackendEvent>,
}

impl Filters {
    async fn take(self, listener: UnixListener) {
        // All end with this task.
        let mut followed = JoinSet::new();
        loop {
            tokio::select! {
                connected = listener.accept() => match connected {
                    Ok((connection, _)) => {
                        let filters = self.clone();
                        followed.spawn(async move { filters.follow(connection).await });
                    }
                    Err(error) => {
                        tracing::warn!("Seccomp notifier of container {}: {error}", self.id);
                        // Too many open files, most likely.
                        sleep(PAUSE).await;
                    }
                },
                Some(_) = followed.join_next() => {}
            }
        }
    }

    async fn follow(&self, connection: UnixStream) {
        let received = tokio::time::timeout(MESSAGE_TIME, receive(&connection)).await;
        let received = received.unwrap_or_else(|_| Err("it took too long".into()));
        drop(connection);
        let ended = match received {
            Ok(filter) => self.answer(filter).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::warn!("Seccomp notifier of container {}: {reason}", self.id);
        }
    }

    /// Refuses all calls until no process is under the filter any more.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe for descriptors that may be swapped, which an OwnedFd is not"
    )]
    async fn answer(&self, filter: OwnedFd) -> PortResult<()> {
        let filter = AsyncFd::with_interest(filter, Interest::READABLE)?;
        let mut pace = Pace::new();
        loop {
            let mut ready = filter.readable().await?;
            match pending(filter.get_ref())? {
                Pending::Call => {}
                Pending::Nothing => {
                    ready.clear_ready();
                    continue;
                }
                Pending::Unknown => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Pending::Ended => return Ok(()),
            }
            let call = match notify::receive(filter.get_ref()) {
                Ok(call) => call,
                Err(error) if passes(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            // The receiver lives as long as the daemon.
            let _ = self
                .events
                .send(BackendEvent::CallHeld(self.id.clone(), name(call)));
            pace.keep().await;
            match notify::refuse(filter.get_ref(), call, Errno::NOSYS.raw_os_error()) {
                Err(error) if !passes(&error) => return Err(error.into()),
                _ => {}
            }
        }
    }
}

/// Whether the caller is gone, or was interrupted.
fn passes(error: &std::io::Error) -> bool {
    [Errno::NOENT, Errno::INTR, Errno::INPROGRESS]
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}

fn name(call: HeldCall) -> String {
    match call_name(call.architecture, call.number) {
        Some(name) => name.to_owned(),
        None => format!("{} of architecture {:#x}", call.number, call.architecture),
    }
}

/// What a filter has for us.
enum Pending {
    Call,
    Nothing,
    Unknown,
    Ended,
}

/// Asked before every read, which waits where there is nothing.
fn pending(filter: &OwnedFd) -> PortResult<Pending> {
    let mut polled = [PollFd::new(filter, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())))?;
    let seen = polled[0].revents();
    Ok(match seen {
        _ if seen.contains(PollFlags::IN) => Pending::Call,
        _ if seen.contains(PollFlags::HUP) => Pending::Ended,
        // The kernel was interrupted while it looked.
        _ if seen.contains(PollFlags::ERR) => Pending::Unknown,
        _ => Pending::Nothing,
    })
}

/// Takes a runtime's message, and the filter out of its descriptors.
async fn receive(connection: &UnixStream) -> PortResult<OwnedFd> {
    let (mut text, mut descriptors) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        connection.readable().await?;
        let packet = connection.try_io(Interest::READABLE, || {
            receive_packet(connection, &mut buffer)
        });
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        descriptors.extend(packet.descriptors);
        if packet.length == 0 {
            return filter_among(&text, descriptors);
        }
        text.extend_from_slice(&buffer[..packet.length]);
        if text.len() > MESSAGE_MAX {
            return Err("the message is too long".into());
        }
    }
}

fn filter_among(message: &[u8], descriptors: Vec<OwnedFd>) -> PortResult<OwnedFd> {
    let message: Value = serde_json::from_slice(message)
        .map_err(|error| PortError::from(format!("the message is not JSON: {error}")))?;
    let names = message["fds"].as_array().into_iter().flatten();
    let mut named = names.zip(descriptors);
    let filter = named.find(|(name, _)| *name == FILTER);
    let filter = filter.ok_or_else(|| format!("no descriptor is called {FILTER}"))?;
    match named.any(|(name, _)| *name == FILTER) {
        true => Err(format!("several descriptors are called {FILTER}").into()),
        false => Ok(filter.1),
    }
}

/// Keeps a filter from reporting more than its share.
struct Pace {
    since: Instant,
    calls: u32,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            calls: 0,
        }
    }

    async fn keep(&mut self) {
        if self.since.elapsed() > Duration::from_secs(1) {
            *self = Self::new();
        }
        self.calls += 1;
        if self.calls > AT_ONCE {
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_found_among_the_descriptors() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let found = |message: &str, count: usize| {
            let descriptors = (0..count).map(|_| null()).collect();
            filter_among(message.as_bytes(), descriptors)
        };
        found(r#"{"fds":["seccompFd"],"pid":1}"#, 1).unwrap();
        found(r#"{"fds":["other","seccompFd"]}"#, 2).unwrap();
        for (message, count) in [
            (r#"{"fds":["seccompFd"]}"#, 0),
            (r#"{"fds":["other","seccompFd"]}"#, 1),
            (r#"{"fds":["seccompFd","seccompFd"]}"#, 2),
            (r#"{"pid":1}"#, 1),
            ("", 1),
        ] {
            found(message, count).unwrap_err();
        }
    }
}
