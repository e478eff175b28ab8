//! The rtnetlink socket.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::message::{NLMSG_DONE, NLMSG_ERROR, Reply, replies};
use crate::{Netns, NetnsError};

/// The kernel never sends more than this in one datagram of a dump (NLMSG_GOODSIZE grows to 32 KiB).
const RECEIVE_BUFFER: usize = 64 * 1024;

thread_local! {
    /// Room for a datagram, kept for the thread's next exchange.
    static SPACE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A request to the kernel's network configuration failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket could be opened.
    #[error("open netlink socket")]
    Open {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not take or answer the request.
    #[error("exchange netlink messages to {operation}")]
    Exchange {
        /// What was asked for.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused one request.
    #[error("{operation}")]
    Refused {
        /// What was asked for.
        operation: String,
        /// Why it was refused.
        source: Errno,
    },
    /// The kernel's answer could not be understood.
    #[error("understand the kernel's answer to {operation}: {reason}")]
    Malformed {
        /// What was asked for.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The namespace could not be entered to open the socket.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl NetlinkError {
    /// The kernel's error number, when it refused the request.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Some(*source),
            _ => None,
        }
    }
}

/// An rtnetlink socket. It speaks for the network namespace it was opened in, whatever thread
/// uses it.
#[derive(Debug)]
pub struct RouteSocket {
    socket: NetlinkSocket,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        // rtnetlink is protocol 0, which is also what no protocol means.
        Ok(Self {
            socket: NetlinkSocket::open(None)?,
        })
    }

    /// Opens a socket inside `netns`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel gives no socket.
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        netns.run(Self::open)?
    }

    /// Waits until the kernel has processed the carrier change of link `name`, so that its first
    /// packets are not lost. Returns whether it has carrier.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn settle_link(&self, name: &str) -> Result<bool, NetlinkError> {
        crioxide_sys::ethtool::link_detected(self.socket.as_fd(), name).map_err(|source| {
            NetlinkError::Exchange {
                operation: format!("read carrier of `{name}`"),
                source,
            }
        })
    }

    pub(crate) fn inner(&mut self) -> &mut NetlinkSocket {
        &mut self.socket
    }
}

/// A connected netlink socket of any protocol with its sequence counter.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    fd: OwnedFd,
    sequence: u32,
}

impl NetlinkSocket {
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        Self::open_bound(protocol, 0)
    }

    /// A socket that gets the messages of multicast `groups`.
    pub(crate) fn open_listening(protocol: Protocol, groups: u32) -> Result<Self, NetlinkError> {
        Self::open_bound(Some(protocol), groups)
    }

    fn open_bound(protocol: Option<Protocol>, groups: u32) -> Result<Self, NetlinkError> {
        let opened = (|| {
            let fd = rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                protocol,
            )?;
            rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
            Ok::<_, Errno>(fd)
        })();
        let fd = opened.map_err(|errno| NetlinkError::Open {
            source: errno.into(),
        })?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub(crate) fn take_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Sends a buffer of messages. The kernel processes them before this returns.
    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<()> {
        rustix::net::sendto(
            &self.fd,
            buffer,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        Ok(())
    }

    /// Reads what the kernel has queued and gives every message to `handle`, until the queue is
    /// empty or `handle` answers that the exchange is over. Nothing is awaited: replies are queued
    /// while `send` runs, and the next part of a dump while the previous is read.
    pub(crate) fn receive(&self, handle: impl FnMut(Reply<'_>) -> Progress) -> io::Result<()> {
        let mut buffer = SPACE.take();
        buffer.resize(RECEIVE_BUFFER, 0);
        let received = self.receive_by(&mut buffer, handle);
        SPACE.set(buffer);
        received
    }

    fn receive_by(
        &self,
        buffer: &mut [u8],
        mut handle: impl FnMut(Reply<'_>) -> Progress,
    ) -> io::Result<()> {
        loop {
            let (length, _) = match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                received => received?,
            };
            for reply in replies(&buffer[..length]) {
                if handle(reply) == Progress::Finished {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a request with `NLM_F_DUMP` or a single-object get, and collects what `read` makes of
    /// each object's message.
    pub(crate) fn query<T>(
        &self,
        operation: &str,
        sequence: u32,
        buffer: &[u8],
        mut read: impl FnMut(Reply<'_>) -> Result<Option<T>, String>,
    ) -> Result<Vec<T>, NetlinkError> {
        let exchange = |source| NetlinkError::Exchange {
            operation: operation.to_owned(),
            source,
        };
        self.send(buffer).map_err(exchange)?;
        let mut found = Vec::new();
        let mut failure = None;
        let mut finished = false;
        self.receive(|reply| {
            if reply.sequence != sequence {
                return Progress::Continue;
            }
            if reply.kind == NLMSG_ERROR || reply.kind == NLMSG_DONE {
                finished = true;
                if let Err(source) = reply.status() {
                    failure = Some(NetlinkError::Refused {
                        operation: operation.to_owned(),
                        source,
                    });
                }
                return Progress::Finished;
            }
            match read(reply) {
                Ok(value) => found.extend(value),
                Err(reason) => {
                    failure = Some(NetlinkError::Malformed {
                        operation: operation.to_owned(),
                        reason,
                    })
                }
            }
            Progress::Continue
        })
        .map_err(exchange)?;
        match failure {
            Some(failure) => Err(failure),
            None if !finished => Err(NetlinkError::Malformed {
                operation: operation.to_owned(),
                reason: "the answer has no end".to_owned(),
            }),
            None => Ok(found),
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a reader wants more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Continue,
    Finished,
}
