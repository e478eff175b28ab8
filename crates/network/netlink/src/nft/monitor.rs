//! News of nftables: who else changes the rules?

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::net::netlink;

use super::SUBSYSTEM;
use super::socket::FAMILY_HEADER;
use crate::NetlinkError;
use crate::message::attribute;
use crate::socket::{NetlinkSocket, Progress};

/// The kernel's multicast group of nftables changes, as a bit.
const GROUP: u32 = 1 << (7 - 1);
const DELETE_TABLE: u16 = 2;
const DELETE_CHAIN: u16 = 5;
const DELETE_RULE: u16 = 8;
const DELETE_SET: u16 = 11;

/// A socket that is told of every change of nftables in its network namespace.
#[derive(Debug)]
pub struct NftMonitor {
    socket: NetlinkSocket,
}

impl NftMonitor {
    /// Opens a monitor of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open_listening(netlink::NETFILTER, GROUP)?,
        })
    }

    /// Reads all news without waiting, and tells whether a table, chain, set or rule of a table
    /// whose name begins with `prefix` was deleted. News that got lost count as that.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn lost_something(&mut self, prefix: &str) -> io::Result<bool> {
        let mut lost = false;
        let read = self.socket.receive(|reply| {
            lost |= is_loss(reply.kind, reply.payload, prefix);
            Progress::Continue
        });
        match read {
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => Ok(true),
            Err(error) => Err(error),
            Ok(()) => Ok(lost),
        }
    }
}

impl AsFd for NftMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for NftMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

fn is_loss(kind: u16, payload: &[u8], prefix: &str) -> bool {
    let deletions = [DELETE_TABLE, DELETE_CHAIN, DELETE_RULE, DELETE_SET];
    kind >> 8 == SUBSYSTEM
        && deletions.contains(&(kind & 0xff))
        // The table's name is the first attribute of all of them.
        && payload
            .get(FAMILY_HEADER..)
            .and_then(|attributes| attribute(attributes, 1))
            .is_some_and(|table| table.starts_with(prefix.as_bytes()))
}
