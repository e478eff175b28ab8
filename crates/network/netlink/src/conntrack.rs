//! Forgetting tracked connections.
//!
//! Address translation is decided once per flow. TCP flows end; a UDP flow lives as long as its
//! client keeps sending, so that it must be forgotten when its port gets another owner.

use rustix::io::Errno;
use rustix::net::netlink;

use crate::NetlinkError;
use crate::message::{MessageWriter, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, attribute};
use crate::nft::Family;
use crate::socket::NetlinkSocket;

/// Subsystem number of connection tracking in nfnetlink message types.
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const ZONE: u16 = 18;
const UDP: u8 = 17;
/// Bytes of `struct nfgenmsg` in front of the attributes.
const FAMILY_HEADER: usize = 4;

/// What identifies a flow to the kernel.
struct Flow {
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Forgets all UDP flows of the calling thread's network namespace whose first packet went to one
/// of `ports`.
///
/// # Errors
/// When the kernel refuses.
pub fn forget_udp_flows(family: Family, ports: &[u16]) -> Result<(), NetlinkError> {
    let mut socket = NetlinkSocket::open(Some(netlink::NETFILTER))?;
    for flow in find(&mut socket, family, ports)? {
        match delete(&mut socket, family, &flow) {
            // It ended meanwhile.
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            done => done?,
        }
    }
    Ok(())
}

fn find(
    socket: &mut NetlinkSocket,
    family: Family,
    ports: &[u16],
) -> Result<Vec<Flow>, NetlinkError> {
    let sequence = socket.take_sequence(1);
    let mut writer = MessageWriter::default();
    writer.begin_message((SUBSYSTEM << 8) | GET, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    writer.raw(&[family.number(), 0, 0, 0]);
    writer.end_message();
    socket.query(
        "list tracked connections",
        sequence,
        &writer.finish(),
        |reply| {
            let payload = reply
                .payload
                .get(FAMILY_HEADER..)
                .ok_or("message too short")?;
            let Some(tuple) = attribute(payload, TUPLE_ORIGINAL) else {
                return Ok(None);
            };
            let wanted = udp_destination(tuple).is_some_and(|port| ports.contains(&port));
            Ok(wanted.then(|| Flow {
                tuple: tuple.to_vec(),
                zone: attribute(payload, ZONE).map(<[u8]>::to_vec),
            }))
        },
    )
}

fn delete(socket: &mut NetlinkSocket, family: Family, flow: &Flow) -> Result<(), NetlinkError> {
    let sequence = socket.take_sequence(1);
    let mut writer = MessageWriter::default();
    writer.begin_message(
        (SUBSYSTEM << 8) | DELETE,
        NLM_F_REQUEST | NLM_F_ACK,
        sequence,
    );
    writer.raw(&[family.number(), 0, 0, 0]);
    writer.nested(TUPLE_ORIGINAL, |writer| writer.raw(&flow.tuple));
    if let Some(zone) = &flow.zone {
        writer.bytes(ZONE, zone);
    }
    writer.end_message();
    socket
        .query(
            "forget a tracked connection",
            sequence,
            &writer.finish(),
            |_| Ok(None::<()>),
        )
        .map(drop)
}

/// The destination port of a UDP tuple.
fn udp_destination(tuple: &[u8]) -> Option<u16> {
    let protocol = attribute(tuple, TUPLE_PROTOCOL)?;
    if attribute(protocol, PROTOCOL_NUMBER)? != [UDP] {
        return None;
    }
    let port = attribute(protocol, PROTOCOL_DESTINATION_PORT)?;
    Some(u16::from_be_bytes(port.try_into().ok()?))
}
