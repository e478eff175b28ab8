//! Listening unix sockets at paths of any length.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// Makes a non-blocking listening socket at `path`, which only root may connect to, replacing what is there.
///
/// A socket address holds about 100 bytes, a bundle's path is longer; so it is bound through the open directory.
pub(crate) fn listen_at(path: &Path, kind: SocketType, backlog: i32) -> io::Result<OwnedFd> {
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a socket path needs a directory and a name",
        )
    };
    let (directory, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    match rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut address = std::path::PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    address.push(name);
    let socket = socket_with(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    bind(&socket, &SocketAddrUnix::new(&address)?)?;
    rustix::fs::chmodat(
        &directory,
        name,
        Mode::from_raw_mode(0o700),
        rustix::fs::AtFlags::empty(),
    )?;
    listen(&socket, backlog)?;
    Ok(socket)
}

/// Whether the peer of a connected socket runs with our own user id (root, outside of tests).
pub(crate) fn peer_is_trusted(socket: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Accepts one connection, close-on-exec and non-blocking; `None` when there is none.
pub(crate) fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    // A connection that was aborted meanwhile, or a full descriptor table, is no reason to stop listening.
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
}
