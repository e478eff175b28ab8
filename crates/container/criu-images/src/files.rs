//! Open files: only those that a process of the new container could have opened.

use crate::creds::Allowed;
use crate::error::Problem;
use crate::wire::Message;

const NET_RAW: u64 = 1 << 13;
const KIND: u32 = 1;
const INET_SOCKET: u32 = 4;
const UNIX_SOCKET: u32 = 16;

/// `SOCK_RAW`.
const RAW: u32 = 3;
/// Kinds of files that lead to nothing but the container.
const HARMLESS: &[u32] = &[
    1,  // file
    2,  // pipe
    3,  // FIFO
    6,  // eventfd
    7,  // epoll
    8,  // inotify
    9,  // signalfd
    11, // terminal
    13, // netlink
    17, // timerfd
    18, // memfd
];

/// Checks one open file.
pub(crate) fn check(file: &Message, allowed: &Allowed) -> Result<(), Problem> {
    let refuse = |what: &str| Err(format!("a process has {what} open"));
    match file.word(KIND)? {
        kind if HARMLESS.contains(&kind) => {}
        // Inet sockets.
        4 => {
            let socket = file
                .message(INET_SOCKET)?
                .ok_or("a socket has no description")?;
            if socket.word(4)? == RAW && !allowed.has(NET_RAW) {
                return refuse("a raw socket, which needs CAP_NET_RAW,");
            }
        }
        // Unix sockets; one that is external leads to a socket of the node.
        5 => {
            let socket = file
                .message(UNIX_SOCKET)?
                .ok_or("a socket has no description")?;
            if socket.word(6)? & 1 != 0 {
                return refuse("a socket of the node");
            }
        }
        10 => return refuse("a packet socket"),
        12 => return refuse("a fanotify group"),
        14 => return refuse("a namespace"),
        15 => return refuse("a TUN device"),
        16 => return refuse("a file that only an extension of criu knows"),
        19 => return refuse("a BPF map"),
        kind => return refuse(&format!("a file of the unknown kind {kind}")),
    }
    // Each kind has its own part, and no other is looked at by criu; but there is no reason for one to be there.
    let reg = file.message(3)?;
    if reg.map(|reg| reg.word(9)).transpose()?.unwrap_or_default() != 0 {
        return refuse("a file that only an extension of criu knows");
    }
    Ok(())
}
