//! What comes from a monitor, brought to those who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crioxide_monitor_protocol::{Event, ExitReport, Reply, ServerFrame, decode};
use tokio::sync::{mpsc, oneshot};

use super::MonitorEvent;
use crate::connection::PacketSocket;

/// Open requests and execs.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    execs: HashMap<String, oneshot::Sender<ExitReport>>,
    gone: bool,
}

/// The promise of a reply. Dropping it forgets the request.
pub(crate) struct Expected {
    inbox: Arc<Inbox>,
    seq: u64,
    reply: oneshot::Receiver<Reply>,
}

impl Expected {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// The reply; `None` when the monitor ended first.
    pub(crate) async fn reply(mut self) -> Option<Reply> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.inbox.state().replies.remove(&self.seq);
    }
}

impl Inbox {
    /// A number for a request; `None` when nobody will answer any more.
    pub(crate) fn expect_reply(self: &Arc<Self>) -> Option<Expected> {
        let (sender, reply) = oneshot::channel();
        let mut state = self.state();
        if state.gone {
            return None;
        }
        state.next += 1;
        let seq = state.next;
        state.replies.insert(seq, sender);
        Some(Expected {
            inbox: Arc::clone(self),
            seq,
            reply,
        })
    }

    /// Where the end of the exec `name` will be told.
    pub(crate) fn expect_exec(&self, name: &str) -> oneshot::Receiver<ExitReport> {
        let (sender, exit) = oneshot::channel();
        let mut state = self.state();
        if !state.gone {
            state.execs.insert(name.to_owned(), sender);
        }
        exit
    }

    /// The exec did not come to be.
    pub(crate) fn forget_exec(&self, name: &str) {
        self.state().execs.remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-changed by a panic while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the monitor closes or the connection is dropped.
pub(super) async fn read(
    socket: Arc<PacketSocket>,
    inbox: Arc<Inbox>,
    events: mpsc::Sender<MonitorEvent>,
) {
    let mut buffer = Vec::new();
    while let Ok(Some(packet)) = socket.receive(&mut buffer).await {
        let Ok(frame) = decode::<ServerFrame>(&buffer[..packet.length]) else {
            break;
        };
        let event = match frame {
            ServerFrame::Reply { seq, reply } => {
                if let Some(waiter) = inbox.state().replies.remove(&seq) {
                    let _ = waiter.send(reply);
                }
                continue;
            }
            ServerFrame::Event(Event::ExecExited { exec, exit, .. }) => {
                if let Some(waiter) = inbox.state().execs.remove(&exec) {
                    let _ = waiter.send(exit);
                }
                continue;
            }
            ServerFrame::Event(Event::Exited { id, exit }) => MonitorEvent::Exited { id, exit },
            ServerFrame::Event(Event::Oom { id }) => MonitorEvent::Oom { id },
            ServerFrame::Event(Event::StdinClosed { id }) => MonitorEvent::StdinClosed { id },
            ServerFrame::Event(Event::Unknown) => continue,
        };
        // Who dropped the receiver does not want events, but still wants replies.
        let _ = events.send(event).await;
    }
    {
        let mut state = inbox.state();
        state.gone = true;
        state.replies.clear();
        state.execs.clear();
    }
    let _ = events.send(MonitorEvent::Gone).await;
}
