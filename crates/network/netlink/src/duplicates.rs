//! Duplicate detection of IPv6 addresses, for those that want to wait for it.

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_DUMP, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressHeaderFlags, AddressMessage};

use crate::request::{CREATE, address_message};
use crate::{LinkRequests, NetlinkError, RouteSocket};

/// How far the detection is with a link's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// All may be used.
    Done,
    /// Some are still being asked for.
    Pending,
    /// Somebody else has one of them.
    Duplicate,
}

impl LinkRequests {
    /// Adds `address` with its prefix length to link `index`, to be used when nobody else has it.
    pub fn add_address_to_detect(&mut self, index: u32, address: IpNet) -> &mut Self {
        let message = address_message(index, address);
        let operation = format!("add address {address} to link {index}");
        self.push(operation, CREATE, RouteNetlinkMessage::NewAddress(message))
    }
}

impl RouteSocket {
    /// How far duplicate detection is with the addresses of link `index`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detection(&mut self, index: u32) -> Result<Detection, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let flags = self.ask("list addresses", NLM_F_DUMP, request, |payload| {
            let message = AddressMessage::parse(payload).map_err(|error| error.to_string())?;
            let header = message.header;
            Ok((header.index == index).then_some(header.flags))
        })?;
        let any = |flag| flags.iter().any(|flags| flags.contains(flag));
        Ok(if any(AddressHeaderFlags::Dadfailed) {
            Detection::Duplicate
        } else if any(AddressHeaderFlags::Tentative) {
            Detection::Pending
        } else {
            Detection::Done
        })
    }
}
