//! The one ethtool question the network needs: does a link have carrier?

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// ETHTOOL_GLINK of `linux/ethtool.h`.
const ETHTOOL_GLINK: u32 = 0x0a;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Tells whether link `name` of the socket's network namespace has carrier.
///
/// Asking has a side effect callers want: the kernel first runs its deferred link watch work, so a
/// veth pair that was just brought up forwards from the first packet on instead of up to a second
/// later.
///
/// # Errors
/// `InvalidInput` for a name that is empty, holds a NUL or is longer than 15 bytes; otherwise the
/// error of the ioctl (`NotFound`/`ENODEV` when there is no such link).
pub fn link_detected(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is not an interface name"),
        ));
    }
    let mut value = EthtoolValue {
        command: ETHTOOL_GLINK,
        data: 0,
    };
    // SAFETY: `ifreq` is plain C data for which all zeroes is a valid value; it has no Default.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *target = libc::c_char::from_ne_bytes([*byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the descriptor is borrowed for the whole call, `request` and the `value` it points to
    // live until it returns, and SIOCETHTOOL with ETHTOOL_GLINK writes only the four bytes of
    // `value.data`. rustix has no ethtool ioctl.
    let status =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn loopback_answers_and_bad_names_are_refused() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        link_detected(socket.as_fd(), "lo").unwrap();
        for name in ["", "far-too-long-a-name", "a\0b"] {
            let error = link_detected(socket.as_fd(), name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        let missing = link_detected(socket.as_fd(), "no-such-link0").unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
    }
}
