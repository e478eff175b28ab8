//! Messages between the process that creates a container and the container's first process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crioxide_sys::messages::{packet_pair, receive_packet, send_packet};
use serde::{Deserialize, Serialize};

use crate::setup_error::{SetupError, step};

/// Longest message.
const LIMIT: usize = 64 * 1024;

/// From the first process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromInit {
    /// Its process id as the creator sees it, when a helper made it.
    Spawned(i32),
    /// Something asked for could not be had, and the container goes without.
    Warning(String),
    /// All mounts are in place, the root not yet changed: time for hooks. Waits for [`Go`](GO).
    Mounted,
    /// The filter holds calls up; whoever is to answer them needs the descriptor that comes along.
    FilterListener,
    /// Ready to run the user's process. Waits for [`Go`](GO) and then for the start.
    Ready,
    /// Cannot go on; it ends.
    Failed(String),
}

const GO: &[u8] = b"go";

impl AsRawFd for SyncSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct SyncSocket(OwnedFd);

impl SyncSocket {
    /// A pair: the creator's end and the first process's.
    pub(crate) fn pair() -> Result<(Self, Self), SetupError> {
        let (a, b) = packet_pair().map_err(step("make a socket pair"))?;
        Ok((Self(a), Self(b)))
    }

    /// The first process speaks.
    pub(crate) fn tell(&self, message: &FromInit) -> Result<(), SetupError> {
        self.tell_with(message, &[])
    }

    /// The first process speaks, and sends descriptors along.
    pub(crate) fn tell_with(
        &self,
        message: &FromInit,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SetupError> {
        let mut bytes = serde_json::to_vec(message).unwrap_or_default();
        if bytes.len() > LIMIT {
            bytes = serde_json::to_vec(&FromInit::Failed("error message too long".to_owned()))
                .unwrap_or_default();
        }
        send_packet(self.0.as_fd(), &bytes, descriptors).map_err(|_| SetupError::PeerGone)
    }

    /// The creator listens; `None` when the first process is gone.
    pub(crate) fn hear(&self) -> Option<FromInit> {
        self.hear_with().map(|(message, _)| message)
    }

    /// The same with the descriptors that came along.
    pub(crate) fn hear_with(&self) -> Option<(FromInit, Vec<OwnedFd>)> {
        let mut buffer = vec![0; LIMIT];
        let packet = receive_packet(self.0.as_fd(), &mut buffer).ok()?;
        let message = serde_json::from_slice(&buffer[..packet.length]).ok()?;
        Some((message, packet.descriptors))
    }

    /// The creator lets the first process go on.
    pub(crate) fn let_go(&self) -> Result<(), SetupError> {
        send_packet(self.0.as_fd(), GO, &[]).map_err(|_| SetupError::PeerGone)
    }

    /// The first process waits for that.
    pub(crate) fn wait(&self) -> Result<(), SetupError> {
        let mut buffer = [0; 8];
        match receive_packet(self.0.as_fd(), &mut buffer) {
            Ok(packet) if &buffer[..packet.length] == GO => Ok(()),
            _ => Err(SetupError::PeerGone),
        }
    }
}
