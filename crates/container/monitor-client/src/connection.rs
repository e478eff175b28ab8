//! A packet socket on tokio.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crioxide_monitor_protocol::MAX_PACKET;
use crioxide_sys::messages::{Packet, receive_packet, send_packet};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

thread_local! {
    /// Room for the largest packet: one for each thread and not one for each of hundreds of connections.
    static SPACE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connected `SOCK_SEQPACKET` socket.
///
/// tokio has no type for these. Its datagram socket is used for readiness only; packets go through our own calls, which
/// also pass descriptors. (`AsyncFd` cannot be made without `unsafe`.)
#[derive(Debug)]
pub(crate) struct PacketSocket(UnixDatagram);

impl PacketSocket {
    /// Takes a connected socket. To be called inside a tokio runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(UnixDatagram::from_std(socket.into())?))
    }

    /// Connects to a listening socket at a path of any length.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a socket path needs a directory and a name",
            )
        };
        let (directory, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let mut address = std::path::PathBuf::from(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&directory)
        ));
        address.push(name);
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // A unix socket connects at once, or waits for room in the backlog of a process that is stuck.
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&address)?)?;
        Self::new(socket)
    }

    /// Sends one packet.
    pub(crate) async fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.0
            .async_io(Interest::WRITABLE, || {
                send_packet(&self.0, bytes, descriptors)
            })
            .await
    }

    /// Receives one packet that fits `buffer`; its length, 0 when the other side closed.
    pub(crate) async fn receive_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let packet = self
            .0
            .async_io(Interest::READABLE, || receive_packet(&self.0, buffer))
            .await?;
        Ok(packet.length)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(
            &self.0,
            rustix::net::Shutdown::Write,
        )?)
    }

    /// Receives one packet; `buffer` is its content then. `None` when the other side closed.
    pub(crate) async fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<Packet>> {
        let receive = || {
            SPACE.with_borrow_mut(|space| {
                space.resize(MAX_PACKET, 0);
                let packet = receive_packet(&self.0, space)?;
                buffer.clear();
                buffer.extend_from_slice(&space[..packet.length]);
                Ok(packet)
            })
        };
        let packet = self.0.async_io(Interest::READABLE, receive).await?;
        Ok((packet.length > 0).then_some(packet))
    }
}
