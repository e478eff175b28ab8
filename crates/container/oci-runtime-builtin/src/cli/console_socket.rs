//! The socket a terminal is sent over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::setup_error::{SetupError, at};

/// Connects to the caller's socket.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, SetupError> {
    let connected: io::Result<UnixStream> = UnixStream::connect(path);
    connected
        .map(OwnedFd::from)
        .map_err(at("connect to console socket", path))
}
