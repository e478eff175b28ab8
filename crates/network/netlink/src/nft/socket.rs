//! The nftables socket, and what can be asked by it.

use rustix::io::Errno;
use rustix::net::netlink;

use super::element::{Element, StoredElement, read_comment, read_elements};
use super::message_kind;
use super::object::Family;
use super::transaction::{RULE_HANDLE, RULE_USERDATA};
use crate::NetlinkError;
use crate::message::{MessageWriter, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, attribute};
use crate::socket::NetlinkSocket;

const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENTS: u16 = 13;
/// Bytes of `struct nfgenmsg` in front of the attributes.
pub(super) const FAMILY_HEADER: usize = 4;

/// An nftables socket. It speaks for the network namespace it was opened in.
#[derive(Debug)]
pub struct NftSocket {
    pub(super) socket: NetlinkSocket,
}

/// A rule as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRule {
    /// What the kernel knows it by.
    pub handle: u64,
    /// Comment it was added with.
    pub comment: Option<String>,
}

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open(Some(netlink::NETFILTER))?,
        })
    }

    /// Reads the elements of a set that have one of `keys`; absent ones are left out.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that set or element is not there.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        keys: &[Vec<u8>],
    ) -> Result<Vec<StoredElement>, NetlinkError> {
        let mut found = Vec::new();
        for key in keys {
            found.extend(self.read_set(family, table, set, Some(key))?);
        }
        Ok(found)
    }

    /// Reads all elements of a set; none when there is no such set.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn all_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<Vec<StoredElement>, NetlinkError> {
        self.read_set(family, table, set, None)
    }

    /// Names of the sets and maps of a table; none when there is no such table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_names(&mut self, family: Family, table: &str) -> Result<Vec<String>, NetlinkError> {
        self.ask(
            &format!("list nftables sets of `{table}`"),
            (GET_SET, NLM_F_DUMP, family),
            |writer| writer.string(1, table),
            |attributes| {
                let name = attribute(attributes, 2).ok_or("set without name")?;
                let name = name.strip_suffix(&[0]).unwrap_or(name);
                Ok(Some(String::from_utf8_lossy(name).into_owned()))
            },
        )
    }

    /// How many rules a chain holds; none when there is no such chain.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rule_count(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
    ) -> Result<usize, NetlinkError> {
        Ok(self.rules(family, table, chain)?.len())
    }

    /// The rules of a chain, in order; none when there is no such chain.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rules(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
    ) -> Result<Vec<StoredRule>, NetlinkError> {
        self.ask(
            &format!("list rules of nftables chain `{table}/{chain}`"),
            (GET_RULE, NLM_F_DUMP, family),
            |writer| {
                writer.string(1, table);
                writer.string(2, chain);
            },
            |attributes| {
                // Old kernels do not filter.
                let is_of = |kind, name: &str| {
                    attribute(attributes, kind)
                        .is_some_and(|value| value.strip_suffix(&[0]) == Some(name.as_bytes()))
                };
                if !(is_of(1, table) && is_of(2, chain)) {
                    return Ok(None);
                }
                let handle = attribute(attributes, RULE_HANDLE).and_then(|raw| raw.try_into().ok());
                Ok(Some(StoredRule {
                    handle: u64::from_be_bytes(handle.ok_or("rule without handle")?),
                    comment: attribute(attributes, RULE_USERDATA).and_then(read_comment),
                }))
            },
        )
    }

    fn read_set(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        key: Option<&[u8]>,
    ) -> Result<Vec<StoredElement>, NetlinkError> {
        let flags = if key.is_some() { NLM_F_ACK } else { NLM_F_DUMP };
        let lists = self.ask(
            &format!("read nftables set `{table}/{set}`"),
            (GET_ELEMENTS, flags, family),
            |writer| {
                writer.string(1, table);
                writer.string(2, set);
                if let Some(key) = key {
                    let element = Element {
                        key: key.to_vec(),
                        data: Vec::new(),
                        comment: String::new(),
                    };
                    writer.nested(super::element::ELEMENTS, |writer| element.write(writer));
                }
            },
            |attributes| Ok(Some(read_elements(attributes))),
        )?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// One question, and what `read` makes of the attributes of each object in the answer. What is not
    /// there answers nothing.
    fn ask<T>(
        &mut self,
        operation: &str,
        (kind, flags, family): (u16, u16, Family),
        fill: impl FnOnce(&mut MessageWriter),
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, String>,
    ) -> Result<Vec<T>, NetlinkError> {
        let sequence = self.socket.take_sequence(1);
        let mut writer = MessageWriter::default();
        writer.begin_message(message_kind(kind), NLM_F_REQUEST | flags, sequence);
        writer.raw(&[family.number(), 0, 0, 0]);
        fill(&mut writer);
        writer.end_message();
        let answer = self
            .socket
            .query(operation, sequence, &writer.finish(), |reply| {
                let attributes = reply.payload.get(FAMILY_HEADER..);
                read(attributes.ok_or("message too short")?)
            });
        match answer {
            Err(NetlinkError::Refused {
                source: Errno::NOENT,
                ..
            }) => Ok(Vec::new()),
            answer => answer,
        }
    }
}
