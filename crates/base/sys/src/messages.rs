//! Packets over unix sockets, with descriptors as ancillary data (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// Most descriptors in one packet.
pub const MAX_DESCRIPTORS: usize = 16;

/// A received packet.
#[derive(Debug)]
pub struct Packet {
    /// Bytes of the packet that are in the buffer.
    pub length: usize,
    /// Descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// A connected pair of sequenced-packet sockets, close-on-exec.
///
/// # Errors
/// What socketpair(2) reports.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(pair)
}

/// Sends one packet with up to [`MAX_DESCRIPTORS`] descriptors. A closed peer is `EPIPE`, never a signal.
///
/// # Errors
/// `EINVAL` for too many descriptors, otherwise what sendmsg(2) reports.
pub fn send_packet(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::from(rustix::io::Errno::INVAL));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from(rustix::io::Errno::INVAL));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// Receives one packet into `buffer`. A length of 0 means that the peer closed.
///
/// # Errors
/// `EMSGSIZE` when the packet or its descriptors did not fit (what did arrive is closed), otherwise
/// what recvmsg(2) reports.
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::from(rustix::io::Errno::MSGSIZE));
    }
    Ok(Packet {
        length: received.bytes,
        descriptors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_and_descriptor_arrive_together() {
        let (a, b) = packet_pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send_packet(&a, b"hello", &[null.as_fd()]).unwrap();
        send_packet(&a, b"again", &[]).unwrap();
        let mut buffer = [0; 64];
        let packet = receive_packet(&b, &mut buffer).unwrap();
        assert_eq!(
            (&buffer[..packet.length], packet.descriptors.len()),
            (&b"hello"[..], 1)
        );
        assert_eq!(
            rustix::fs::fstat(&packet.descriptors[0]).unwrap().st_rdev,
            rustix::fs::makedev(1, 3)
        );
        assert_eq!(
            receive_packet(&b, &mut buffer).unwrap().descriptors.len(),
            0
        );
        drop(a);
        assert_eq!(receive_packet(&b, &mut buffer).unwrap().length, 0);
        assert_eq!(
            send_packet(&b, b"x", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn oversized_packet_is_an_error() {
        let (a, b) = packet_pair().unwrap();
        send_packet(&a, &[0; 100], &[]).unwrap();
        assert!(receive_packet(&b, &mut [0; 10]).is_err());
    }
}
