//! Connections of the daemon.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crioxide_monitor_protocol::{ClientFrame, Event, Reply, ServerFrame, decode, encode};
use crioxide_sys::messages::{receive_packet, send_packet};

use crate::socket;
use crate::watcher::{Source, Token, Watcher};

/// More connections than this are turned away.
const MOST_CLIENTS: usize = 16;

/// Where a reply goes. The client may be gone by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) client: u32,
    pub(crate) seq: u64,
}

struct Client {
    socket: OwnedFd,
    token: Option<Token>,
    greeted: bool,
}

/// A request as it arrived.
pub(crate) struct Incoming {
    pub(crate) to: ReplyTo,
    pub(crate) request: crioxide_monitor_protocol::Request,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// All connections.
#[derive(Default)]
pub(crate) struct Clients {
    open: BTreeMap<u32, Client>,
    next: u32,
}

impl Clients {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a connection, if its peer is allowed to speak to us.
    pub(crate) fn accept(&mut self, listener: &OwnedFd, watcher: &mut Watcher) {
        let Some(connection) = socket::accept(listener) else {
            return;
        };
        if self.open.len() >= MOST_CLIENTS || !socket::peer_is_trusted(&connection) {
            return;
        }
        let number = self.next;
        self.next += 1;
        if let Ok(token) = watcher.add(&connection, Source::Client(number)) {
            self.open.insert(
                number,
                Client {
                    socket: connection,
                    token: Some(token),
                    greeted: false,
                },
            );
        }
    }

    /// Reads one request, by way of `buffer`; a connection that ended or talks nonsense is closed.
    pub(crate) fn receive(
        &mut self,
        number: u32,
        watcher: &mut Watcher,
        buffer: &mut [u8],
    ) -> Option<Incoming> {
        let client = self.open.get(&number)?;
        let packet = match receive_packet(&client.socket, buffer) {
            Ok(packet) if packet.length > 0 => packet,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            _ => {
                self.drop_client(number, watcher);
                return None;
            }
        };
        match decode::<ClientFrame>(&buffer[..packet.length]) {
            Ok(frame) => Some(Incoming {
                to: ReplyTo {
                    client: number,
                    seq: frame.seq,
                },
                request: frame.request,
                descriptors: packet.descriptors,
            }),
            Err(_) => {
                self.drop_client(number, watcher);
                None
            }
        }
    }

    /// From now on the client gets events.
    pub(crate) fn greet(&mut self, number: u32) {
        if let Some(client) = self.open.get_mut(&number) {
            client.greeted = true;
        }
    }

    pub(crate) fn has_greeted(&self, number: u32) -> bool {
        self.open.get(&number).is_some_and(|client| client.greeted)
    }

    pub(crate) fn reply(&mut self, to: ReplyTo, reply: Reply, watcher: &mut Watcher) {
        self.send(
            to.client,
            &ServerFrame::Reply { seq: to.seq, reply },
            watcher,
        );
    }

    pub(crate) fn tell(&mut self, event: &Event, watcher: &mut Watcher) {
        let frame = ServerFrame::Event(event.clone());
        let greeted: Vec<u32> = self
            .open
            .iter()
            .filter(|(_, client)| client.greeted)
            .map(|(number, _)| *number)
            .collect();
        for number in greeted {
            self.send(number, &frame, watcher);
        }
    }

    /// A client that does not read is closed: it connects again and asks for the list, and misses nothing that way.
    fn send(&mut self, number: u32, frame: &ServerFrame, watcher: &mut Watcher) {
        let Some(client) = self.open.get(&number) else {
            return;
        };
        let sent =
            encode(frame).is_ok_and(|bytes| send_packet(&client.socket, &bytes, &[]).is_ok());
        if !sent {
            self.drop_client(number, watcher);
        }
    }

    fn drop_client(&mut self, number: u32, watcher: &mut Watcher) {
        if let Some(mut client) = self.open.remove(&number)
            && let Some(token) = client.token.take()
        {
            watcher.remove(&client.socket, token);
        }
    }
}
