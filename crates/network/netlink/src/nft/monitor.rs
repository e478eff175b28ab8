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
    /// whose name begins with `prefix` was deleted, or a chain called `canary`, or one of its rules,
    /// in any table. News that got lost count as that.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn lost_something(&mut self, prefix: &str, canary: &str) -> io::Result<bool> {
        let mut lost = false;
        let read = self.socket.receive(|reply| {
            lost |= is_loss(reply.kind, reply.payload, prefix, canary);
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

fn is_loss(kind: u16, payload: &[u8], prefix: &str, canary: &str) -> bool {
    if kind >> 8 != SUBSYSTEM {
        return false;
    }
    let text = |number| {
        let value = payload.get(FAMILY_HEADER..)?;
        let value = attribute(value, number)?;
        Some(value.strip_suffix(&[0]).unwrap_or(value))
    };
    let is_canary = |number| text(number) == Some(canary.as_bytes());
    // The table's name is the first attribute of all of them.
    let is_of_table = text(1).is_some_and(|table| table.starts_with(prefix.as_bytes()));
    match kind & 0xff {
        DELETE_TABLE | DELETE_SET => is_of_table,
        DELETE_CHAIN => is_of_table || is_canary(3),
        DELETE_RULE => is_of_table || is_canary(2),
        _ => false,
    }
}
