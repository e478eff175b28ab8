//! Queues that hold packets back to a rate.

use crate::message::{
    MessageWriter, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, attribute,
};
use crate::{NetlinkError, RouteSocket};

const NEW_QUEUE: u16 = 36;
const GET_QUEUE: u16 = 38;
const NEW_FILTER: u16 = 44;
const NLM_F_REPLACE: u16 = 0x100;
/// Bytes of `struct tcmsg` in front of the attributes.
const HEADER: usize = 20;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const LINK_LAYER_ETHERNET: u8 = 1;
/// Packets may wait this long for their turn.
const LATENCY_MS: u64 = 25;

/// A limit of what a link sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second.
    pub bytes_per_second: u64,
    /// Bytes that may go at once.
    pub burst: u32,
}

/// A queue of a link, as the kernel lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueAnswer {
    /// The link.
    pub link: u32,
    /// Its kind: `tbf`, `ingress`, `noqueue`, …
    pub kind: String,
    /// The rate of a token bucket, in bytes per second.
    pub bytes_per_second: Option<u64>,
}

impl RouteSocket {
    /// Holds what link `index` sends back to a rate, by a token bucket as its root queue.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn limit_rate(&mut self, index: u32, rate: Rate) -> Result<(), NetlinkError> {
        let waiting = rate.bytes_per_second.saturating_mul(LATENCY_MS) / 1000;
        let limit = waiting.saturating_add(u64::from(rate.burst));
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let small_rate = u32::try_from(rate.bytes_per_second).unwrap_or(u32::MAX);
        // `struct tc_tbf_qopt`: rate, peak rate, limit, buffer, mtu. Burst is given in bytes below.
        let mut parameters = vec![0, LINK_LAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
        parameters.extend(small_rate.to_ne_bytes());
        parameters.extend([0; 12]);
        parameters.extend(limit.to_ne_bytes());
        parameters.extend([0; 8]);
        self.traffic_control(
            &format!("limit the rate of link {index}"),
            NEW_QUEUE,
            [index, 0x0001_0000, ROOT, 0],
            |writer| {
                writer.string(KIND, "tbf");
                writer.nested(OPTIONS, |writer| {
                    writer.bytes(1, &parameters);
                    writer.bytes(4, &rate.bytes_per_second.to_ne_bytes());
                    writer.bytes(6, &rate.burst.to_ne_bytes());
                });
            },
        )
    }

    /// Sends everything that arrives by link `index` out of link `target` instead.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn redirect_arrivals(&mut self, index: u32, target: u32) -> Result<(), NetlinkError> {
        self.traffic_control(
            &format!("queue arrivals of link {index}"),
            NEW_QUEUE,
            [index, INGRESS_HANDLE, INGRESS, 0],
            |writer| writer.string(KIND, "ingress"),
        )?;
        // Priority 1, all protocols, in network order.
        let info = (1 << 16) | u32::from(3_u16.to_be());
        // A selector with one key that matches everything, then an action.
        let mut selector = vec![0_u8; 32];
        selector[0] = 1;
        selector[2] = 1;
        const STOLEN: i32 = 4;
        const REDIRECT_OUT: i32 = 1;
        let mut mirror = vec![0_u8; 8];
        mirror.extend(STOLEN.to_ne_bytes());
        mirror.extend([0; 8]);
        mirror.extend(REDIRECT_OUT.to_ne_bytes());
        mirror.extend(target.to_ne_bytes());
        self.traffic_control(
            &format!("redirect arrivals of link {index} to link {target}"),
            NEW_FILTER,
            [index, 0, INGRESS_HANDLE, info],
            |writer| {
                writer.string(KIND, "u32");
                writer.nested(OPTIONS, |writer| {
                    writer.bytes(1, &0x0001_0001_u32.to_ne_bytes());
                    writer.bytes(5, &selector);
                    writer.nested(7, |writer| {
                        writer.nested(1, |writer| {
                            writer.string(1, "mirred");
                            writer.nested(2, |writer| writer.bytes(2, &mirror));
                        });
                    });
                });
            },
        )
    }

    /// The queues of link `index`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn queues(&mut self, index: u32) -> Result<Vec<QueueAnswer>, NetlinkError> {
        let socket = self.inner();
        let sequence = socket.take_sequence(1);
        let mut writer = MessageWriter::default();
        writer.begin_message(GET_QUEUE, NLM_F_REQUEST | NLM_F_DUMP, sequence);
        writer.raw(&header([index, 0, 0, 0]));
        writer.end_message();
        let operation = format!("list queues of link {index}");
        let mut all = socket.query(&operation, sequence, &writer.finish(), |reply| {
            Ok(read_queue(reply.payload))
        })?;
        all.retain(|queue| queue.link == index);
        Ok(all)
    }

    fn traffic_control(
        &mut self,
        operation: &str,
        kind: u16,
        numbers: [u32; 4],
        fill: impl FnOnce(&mut MessageWriter),
    ) -> Result<(), NetlinkError> {
        let socket = self.inner();
        let sequence = socket.take_sequence(1);
        let mut writer = MessageWriter::default();
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        writer.begin_message(kind, flags, sequence);
        writer.raw(&header(numbers));
        fill(&mut writer);
        writer.end_message();
        socket
            .query(operation, sequence, &writer.finish(), |_| Ok(None::<()>))
            .map(drop)
    }
}

/// `struct tcmsg`: link, handle, parent, info.
fn header(numbers: [u32; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for number in numbers {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

fn read_queue(payload: &[u8]) -> Option<QueueAnswer> {
    let link = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attributes = payload.get(HEADER..)?;
    let kind = attribute(attributes, KIND)?;
    let kind = String::from_utf8_lossy(kind.strip_suffix(&[0]).unwrap_or(kind)).into_owned();
    let bytes_per_second = attribute(attributes, OPTIONS)
        .filter(|_| kind == "tbf")
        .and_then(|options| {
            let wide = attribute(options, 4).and_then(|value| value.try_into().ok());
            wide.map(u64::from_ne_bytes).or_else(|| {
                let parameters = attribute(options, 1)?;
                let rate = u32::from_ne_bytes(parameters.get(8..12)?.try_into().ok()?);
                Some(u64::from(rate))
            })
        });
    Some(QueueAnswer {
        link,
        kind,
        bytes_per_second,
    })
}
