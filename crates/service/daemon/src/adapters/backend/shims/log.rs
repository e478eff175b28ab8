//! What shims log: to a FIFO in the bundle they were started in, and from there to the daemon's log.

use std::{os::fd::OwnedFd, path::Path};

use crioxide_engine::ports::PortResult;
use crioxide_names::PodId;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use tokio::{io::AsyncBufReadExt as _, net::unix::pipe};

/// Longest piece that is handed on, bytes.
const PIECE: usize = 4096;

/// Makes the FIFO `log` in a bundle, and hands on what comes there until its writers are gone. What is returned is one,
/// to be kept until the shim has opened it.
pub(super) fn open(bundle: &Path, pod: &PodId) -> PortResult<OwnedFd> {
    let path = bundle.join("log");
    match rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(format!("cannot make {}: {error}", path.display()).into()),
    }
    let reader = open_end(&path, OFlags::RDONLY)?;
    let writer = open_end(&path, OFlags::WRONLY)?;
    tokio::spawn(hand_on(pipe::Receiver::from_owned_fd(reader)?, pod.clone()));
    Ok(writer)
}

/// Goes on with the FIFO of a shim that a former daemon started.
pub(super) fn reopen(bundle: &Path, pod: &PodId) {
    // Without it the shim's words are lost, and nothing else.
    let reader = open_end(&bundle.join("log"), OFlags::RDONLY);
    if let Ok(Ok(reader)) = reader.map(pipe::Receiver::from_owned_fd) {
        tokio::spawn(hand_on(reader, pod.clone()));
    }
}

fn open_end(path: &Path, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
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
