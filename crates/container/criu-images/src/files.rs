//! Open files: only those that a process of the new container could have opened.

use std::path::Path;

use crate::creds::Allowed;
use crate::error::Problem;
use crate::mounts::Host;
use crate::wire::Message;

const NET_RAW: u64 = 1 << 13;
const KIND: u32 = 1;
const PLAIN: u32 = 3;
const INET_SOCKET: u32 = 4;
const UNIX_SOCKET: u32 = 16;

const O_ACCMODE: u32 = 3;
const O_PATH: u32 = 0o10_000_000;
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
pub(crate) fn check(file: &Message, allowed: &Allowed, host: &Host<'_>) -> Result<(), Problem> {
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
    let Some(plain) = file.message(PLAIN)? else {
        return Ok(());
    };
    if plain.word(9)? != 0 {
        return refuse("a file that only an extension of criu knows");
    }
    // criu opens it as root.
    let flags = plain.word(2)?;
    let path = Path::new(plain.text(6)?.unwrap_or_default());
    let (read, write) = match flags & O_ACCMODE {
        _ if flags & O_PATH != 0 => (false, false),
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    match (host.owner)(path) {
        Some(owner) if !allowed.may_open(owner, read, write) => refuse(&format!(
            "{}, which the container's user must not open,",
            path.display()
        )),
        _ => Ok(()),
    }
}
