//! Traffic counters of the links of many network namespaces.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use netlink_packet_core::{NLM_F_DUMP, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{NetlinkError, Netns, RouteSocket};

/// What went through one direction of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Bad packets, or failures to send.
    pub errors: u64,
    /// Packets that found no room.
    pub dropped: u64,
}

/// The counters of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Its name.
    pub name: String,
    /// The loopback.
    pub loopback: bool,
    /// In.
    pub received: Traffic,
    /// Out.
    pub sent: Traffic,
}

impl RouteSocket {
    /// The counters of all links of the namespace, in the order of their indices.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn link_counters(&mut self) -> Result<Vec<LinkCounters>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.ask("list links", NLM_F_DUMP, request, |payload| {
            let message = LinkMessage::parse(payload).map_err(|error| error.to_string())?;
            Ok(Some(from_message(message)))
        })
    }
}

/// The counters of every namespace in `paths`, read by one throw-away thread that goes from one to the next. A namespace
/// that is gone has an error in its place.
///
/// # Errors
/// When no thread can be started.
pub fn of_namespaces<P: AsRef<Path> + Sync>(
    paths: &[P],
) -> io::Result<Vec<Result<Vec<LinkCounters>, NetlinkError>>> {
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, || {
                paths.iter().map(|path| of_one(path.as_ref())).collect()
            })?;
        Ok(reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Moves the calling thread for good.
fn of_one(path: &Path) -> Result<Vec<LinkCounters>, NetlinkError> {
    let netns = Netns::open(path)?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
        |errno| crate::NetnsError::Enter {
            path: path.to_owned(),
            source: errno.into(),
        },
    )?;
    RouteSocket::open()?.link_counters()
}

fn from_message(message: LinkMessage) -> LinkCounters {
    let mut link = LinkCounters {
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..LinkCounters::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Stats64(stats) => {
                link.received = Traffic {
                    bytes: stats.rx_bytes,
                    packets: stats.rx_packets,
                    errors: stats.rx_errors,
                    dropped: stats.rx_dropped,
                };
                link.sent = Traffic {
                    bytes: stats.tx_bytes,
                    packets: stats.tx_packets,
                    errors: stats.tx_errors,
                    dropped: stats.tx_dropped,
                };
            }
            _ => {}
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_loopback_carried() {
        // The own namespace: entering it takes root, reading it does not.
        let before = loopback(RouteSocket::open().unwrap().link_counters().unwrap());
        let (here, there) = (
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        here.send_to(&[0; 100], there.local_addr().unwrap())
            .unwrap();
        let after = loopback(RouteSocket::open().unwrap().link_counters().unwrap());
        assert!(after.sent.bytes >= before.sent.bytes + 100);
        assert!(after.received.packets > before.received.packets);
    }

    fn loopback(links: Vec<LinkCounters>) -> LinkCounters {
        links.into_iter().find(|link| link.loopback).unwrap()
    }

    #[test]
    fn a_namespace_that_is_gone_does_not_hide_the_others() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return;
        }
        let read = of_namespaces(&["/nonexistent/netns", "/proc/self/ns/net"]).unwrap();
        assert!(read[0].is_err());
        assert!(read[1].as_ref().unwrap().iter().any(|link| link.loopback));
    }
}
