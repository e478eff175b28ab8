//! nftables sockets that stay open.
//!
//! The kernel frees what a transaction removed after a grace period, and closing any nftables
//! socket waits for that: several milliseconds for each pod that goes. Kept open, nobody waits.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use crioxide_netlink::NetlinkError;
use crioxide_netlink::nft::NftSocket;

/// Sockets kept while unused; more are only open at the same time under a burst of pods.
const KEPT: usize = 8;

/// Idle sockets, each with the network namespace it speaks for.
#[derive(Debug, Default)]
pub(crate) struct NftSockets {
    idle: Mutex<Vec<(u64, NftSocket)>>,
}

/// A socket that goes back to its pool when dropped.
#[derive(Debug)]
pub(crate) struct Borrowed<'a> {
    pool: &'a NftSockets,
    namespace: Option<u64>,
    /// There until dropped.
    socket: Option<NftSocket>,
}

impl NftSockets {
    /// A socket of the calling thread's network namespace.
    pub(crate) fn get(&self) -> Result<Borrowed<'_>, NetlinkError> {
        // The inode number identifies a living namespace, and a kept socket keeps its alive.
        let namespace = fs::metadata("/proc/thread-self/ns/net")
            .ok()
            .map(|namespace| namespace.ino());
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|(of, _)| Some(*of) == namespace);
        let kept = found.map(|at| idle.swap_remove(at).1);
        drop(idle);
        let socket = match kept {
            Some(socket) => socket,
            None => NftSocket::open()?,
        };
        Ok(Borrowed {
            pool: self,
            namespace,
            socket: Some(socket),
        })
    }
}

impl Deref for Borrowed<'_> {
    type Target = NftSocket;

    fn deref(&self) -> &NftSocket {
        self.socket
            .as_ref()
            .expect("the socket is taken out only by drop")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut NftSocket {
        self.socket
            .as_mut()
            .expect("the socket is taken out only by drop")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let (Some(namespace), Some(socket), true) =
            (self.namespace, self.socket.take(), idle.len() < KEPT)
        {
            idle.push((namespace, socket));
        }
    }
}
