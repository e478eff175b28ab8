//! Links as the kernel describes them, and the veth pair to be made.

use crate::message::{attribute, attributes};
use crate::{MacAddress, Netns};

/// The fixed part of a link's message, `struct ifinfomsg` of rtnetlink(7): index and flags after four other bytes.
const FIXED: usize = 16;
const IFF_UP: u32 = 0x1;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;

/// Attributes of a link, `IFLA_*` of if_link.h.
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const PARENT: u16 = 5;
const MASTER: u16 = 10;
const TX_QUEUE_LEN: u16 = 13;
const INFO: u16 = 18;
const ALIAS: u16 = 20;
/// Inside of those: `IFLA_INFO_*`, and of bridge ports, VRFs and VLANs one each.
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_PORT_KIND: u16 = 4;
const INFO_PORT_DATA: u16 = 5;
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;
const VRF_TABLE: u16 = 1;
const VLAN_ID: u16 = 1;

/// What is known of one network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Hardware address, when the link has an Ethernet one.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Index of the bridge (or other master) it is a port of.
    pub master: Option<u32>,
    /// Kind, as `ip -d link` names it (`bridge`, `veth`); empty for real hardware and `lo`.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Promiscuous mode was asked for.
    pub promiscuous: bool,
    /// Frames may leave through the port they came in by; only of bridge ports.
    pub hairpin: bool,
    /// Frames do not go to other isolated ports; only of bridge ports.
    pub isolated: bool,
    /// All multicast frames are received.
    pub all_multicast: bool,
    /// Descriptive text.
    pub alias: String,
    /// Length of the transmit queue in packets.
    pub tx_queue_len: u32,
    /// Index of the link it sits on.
    pub parent: Option<u32>,
    /// Routing table, of a VRF.
    pub vrf_table: Option<u32>,
    /// Tag, of a VLAN.
    pub vlan_id: Option<u16>,
}

/// A veth pair: one end here, the other directly inside another network namespace.
#[derive(Debug)]
pub struct VethSpec<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Name of the end in `peer_netns`.
    pub peer_name: &'a str,
    /// Its hardware address.
    pub peer_mac: MacAddress,
    /// Where the peer goes.
    pub peer_netns: &'a Netns,
    /// Largest packet in bytes; the kernel's default when not given.
    pub mtu: Option<u32>,
    /// Bridge that this end becomes a port of.
    pub master: Option<u32>,
}

impl Link {
    /// Reads what the kernel says of a link. Of the dozens of attributes, statistics included, only those that count here
    /// are looked at.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let (fixed, rest) = payload
            .split_at_checked(FIXED)
            .ok_or("a link's message is too short")?;
        let flags = number(&fixed[8..]).unwrap_or_default();
        let mut link = Self {
            index: number(&fixed[4..]).unwrap_or_default(),
            name: String::new(),
            mac: None,
            mtu: 0,
            master: None,
            kind: String::new(),
            up: flags & IFF_UP != 0,
            promiscuous: flags & IFF_PROMISC != 0,
            hairpin: false,
            isolated: false,
            all_multicast: flags & IFF_ALLMULTI != 0,
            alias: String::new(),
            tx_queue_len: 0,
            parent: None,
            vrf_table: None,
            vlan_id: None,
        };
        for (kind, value) in attributes(rest) {
            match kind {
                NAME => link.name = text(value),
                ADDRESS => link.mac = MacAddress::from_slice(value),
                MTU => link.mtu = number(value).unwrap_or_default(),
                MASTER => link.master = number(value),
                ALIAS => link.alias = text(value),
                TX_QUEUE_LEN => link.tx_queue_len = number(value).unwrap_or_default(),
                PARENT => link.parent = number(value),
                INFO => link.read_info(value),
                _ => {}
            }
        }
        Ok(link)
    }

    fn read_info(&mut self, info: &[u8]) {
        let kind = |of| attribute(info, of).map(text).unwrap_or_default();
        self.kind = kind(INFO_KIND);
        if let Some(port) = attribute(info, INFO_PORT_DATA)
            && kind(INFO_PORT_KIND) == "bridge"
        {
            let is_on = |setting| attribute(port, setting).is_some_and(|value| value == [1]);
            self.hairpin = is_on(PORT_HAIRPIN);
            self.isolated = is_on(PORT_ISOLATED);
        }
        let Some(data) = attribute(info, INFO_DATA) else {
            return;
        };
        match self.kind.as_str() {
            "vrf" => self.vrf_table = attribute(data, VRF_TABLE).and_then(number),
            "vlan" => {
                let id = attribute(data, VLAN_ID).and_then(|value| value.try_into().ok());
                self.vlan_id = id.map(u16::from_ne_bytes);
            }
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A string of the kernel's, which ends in NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageWriter, replies};

    #[test]
    fn what_the_kernel_says_of_a_bridge_port() {
        let mut writer = MessageWriter::default();
        writer.begin_message(16, 0, 1);
        let mut fixed = [0; FIXED];
        fixed[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        fixed[8..12].copy_from_slice(&(IFF_UP | IFF_ALLMULTI).to_ne_bytes());
        writer.raw(&fixed);
        writer.string(NAME, "veth0");
        writer.bytes(ADDRESS, &[2, 0, 0, 0, 0, 9]);
        writer.bytes(MTU, &1400_u32.to_ne_bytes());
        writer.bytes(MASTER, &3_u32.to_ne_bytes());
        // Statistics and the like.
        writer.bytes(23, &[0; 200]);
        writer.nested(INFO, |info| {
            info.string(INFO_KIND, "veth");
            info.string(INFO_PORT_KIND, "bridge");
            info.nested(INFO_PORT_DATA, |port| port.bytes(PORT_HAIRPIN, &[1]));
        });
        writer.end_message();
        let message = writer.finish();
        let payload = replies(&message).next().unwrap().payload;
        let link = Link::parse(payload).unwrap();
        assert_eq!((link.index, link.name.as_str()), (7, "veth0"));
        assert_eq!((link.kind.as_str(), link.mtu), ("veth", 1400));
        assert!(link.up && link.hairpin && link.all_multicast && !link.promiscuous);
        assert_eq!((link.master, link.parent), (Some(3), None));
        assert_eq!(link.mac.unwrap().bytes(), [2, 0, 0, 0, 0, 9]);
        for cut in 0..payload.len() {
            assert_eq!(Link::parse(&payload[..cut]).is_err(), cut < FIXED, "{cut}");
        }
    }
}
