//! What shims log: to a FIFO in the bundle they were started in, and from there to the daemon's log.

use std::{os::fd::OwnedFd, path::Path};

use crioxide_engine::ports::PortResult;
use crioxide_files::{Existing, FifoEnd, make_fifo, open_fifo};
use crioxide_names::PodId;
use tokio::{io::AsyncBufReadExt as _, net::unix::pipe};

/// Longest piece that is handed on, bytes.
const PIECE: usize = 4096;

/// Makes the FIFO `log` in a bundle, and hands on what comes there until its writers are gone. What is returned is one,
/// to be kept until the shim has opened it.
pub(super) fn open(bundle: &Path, pod: &PodId) -> PortResult<OwnedFd> {
    let path = bundle.join("log");
    make_fifo(&path, 0o600, Existing::Kept)?;
    let reader = open_fifo(&path, FifoEnd::Read)?;
    let writer = open_fifo(&path, FifoEnd::Write)?;
    tokio::spawn(hand_on(pipe::Receiver::from_owned_fd(reader)?, pod.clone()));
    Ok(writer)
}

/// Goes on with the FIFO of a shim that a former daemon started.
pub(super) fn reopen(bundle: &Path, pod: &PodId) {
    // Without it the shim's words are lost, and nothing else.
    let reader = open_fifo(&bundle.join("log"), FifoEnd::Read);
    if let Ok(Ok(reader)) = reader.map(pipe::Receiver::from_owned_fd) {
        tokio::spawn(hand_on(reader, pod.clone()));
    }
}

async fn hand_on(reader: pipe::Receiver, pod: PodId) {
    let mut reader = tokio::io::BufReader::with_capacity(PIECE, reader);
    loop {
        let count = match reader.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => {
                for line in String::from_utf8_lossy(bytes).lines() {
                    tracing::debug!("Shim of pod {pod}: {line}");
                }
                bytes.len()
            }
            _ => return,
        };
        reader.consume(count);
    }
}
