//! Transactions: a list of changes the kernel makes as a whole or not at all.

use super::element::{Element, comment_userdata};
use super::expression::Expression;
use super::object::{BaseChain, DataType, Family, SetSpec};
use super::socket::NftSocket;
use super::{SUBSYSTEM, message_kind};
use crate::NetlinkError;
use crate::message::{
    MessageWriter, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR,
};
use crate::socket::Progress;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const SET_FLAG_MAP: u32 = 8;
pub(super) const RULE_HANDLE: u16 = 3;
pub(super) const RULE_USERDATA: u16 = 7;

/// Changes to be made together. Adding what exists already is no error, except for an element
/// whose map value differs.
#[derive(Debug)]
pub struct Transaction<'a> {
    changes: Vec<Change<'a>>,
}

struct Change<'a> {
    operation: String,
    kind: u16,
    flags: u16,
    family: Family,
    body: Box<dyn FnOnce(&mut MessageWriter) + 'a>,
}

impl std::fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.operation)
    }
}

impl<'a> Transaction<'a> {
    /// An empty transaction.
    pub fn new() -> Self {
        Self {
            changes: Vec::new(),
        }
    }

    /// Adds a table.
    pub fn add_table(&mut self, family: Family, table: &'a str) -> &mut Self {
        self.push(
            format!("add nftables table `{table}`"),
            NEW_TABLE,
            NLM_F_CREATE,
            family,
            |writer| {
                writer.string(1, table);
                writer.u32_be(2, 0);
            },
        )
    }

    /// Deletes a table with all it holds.
    pub fn delete_table(&mut self, family: Family, table: &'a str) -> &mut Self {
        self.push(
            format!("delete nftables table `{table}`"),
            DELETE_TABLE,
            0,
            family,
            |writer| writer.string(1, table),
        )
    }

    /// Adds a chain hooked into packet processing.
    pub fn add_base_chain(
        &mut self,
        family: Family,
        table: &'a str,
        chain: &BaseChain<'a>,
    ) -> &mut Self {
        let chain = *chain;
        let operation = format!("add nftables chain `{table}/{}`", chain.name);
        self.push(operation, NEW_CHAIN, NLM_F_CREATE, family, move |writer| {
            writer.string(1, table);
            writer.string(3, chain.name);
            writer.nested(4, |writer| {
                writer.u32_be(1, chain.hook.number());
                writer.bytes(2, &chain.priority.to_be_bytes());
            });
            writer.string(7, chain.kind.name());
        })
    }

    /// Adds a chain that others jump to.
    pub fn add_chain(&mut self, family: Family, table: &'a str, chain: &'a str) -> &mut Self {
        self.push(
            format!("add nftables chain `{table}/{chain}`"),
            NEW_CHAIN,
            NLM_F_CREATE,
            family,
            move |writer| {
                writer.string(1, table);
                writer.string(3, chain);
            },
        )
    }

    /// Deletes an empty chain that nothing jumps to.
    pub fn delete_chain(&mut self, family: Family, table: &'a str, chain: &'a str) -> &mut Self {
        self.push(
            format!("delete nftables chain `{table}/{chain}`"),
            DELETE_CHAIN,
            0,
            family,
            move |writer| {
                writer.string(1, table);
                writer.string(3, chain);
            },
        )
    }

    /// Removes all rules of a chain, which must exist (an earlier change may add it).
    pub fn flush_chain(&mut self, family: Family, table: &'a str, chain: &'a str) -> &mut Self {
        self.push(
            format!("flush nftables chain `{table}/{chain}`"),
            DELETE_RULE,
            0,
            family,
            move |writer| {
                writer.string(1, table);
                writer.string(2, chain);
            },
        )
    }

    /// Appends a rule to a chain.
    pub fn add_rule(
        &mut self,
        family: Family,
        table: &'a str,
        chain: &'a str,
        rule: Vec<Expression>,
    ) -> &mut Self {
        self.add_rule_of(family, table, chain, rule, "")
    }

    /// Appends a rule to a chain, with a comment that says whose it is: at most 128 bytes are stored.
    pub fn add_rule_of(
        &mut self,
        family: Family,
        table: &'a str,
        chain: &'a str,
        rule: Vec<Expression>,
        owner: &'a str,
    ) -> &mut Self {
        let operation = format!("add rule to nftables chain `{table}/{chain}`");
        self.push(
            operation,
            NEW_RULE,
            NLM_F_CREATE | NLM_F_APPEND,
            family,
            move |writer| {
                writer.string(1, table);
                writer.string(2, chain);
                writer.nested(4, |writer| {
                    rule.iter().for_each(|expression| expression.write(writer))
                });
                if !owner.is_empty() {
                    writer.bytes(RULE_USERDATA, &comment_userdata(owner));
                }
            },
        )
    }

    /// Deletes the rule of a chain that the kernel knows by `handle`.
    pub fn delete_rule(
        &mut self,
        family: Family,
        table: &'a str,
        chain: &'a str,
        handle: u64,
    ) -> &mut Self {
        let operation = format!("delete rule {handle} of nftables chain `{table}/{chain}`");
        self.push(operation, DELETE_RULE, 0, family, move |writer| {
            writer.string(1, table);
            writer.string(2, chain);
            writer.bytes(RULE_HANDLE, &handle.to_be_bytes());
        })
    }

    /// Adds a set or map.
    pub fn add_set(&mut self, family: Family, table: &'a str, set: &SetSpec<'a>) -> &mut Self {
        let set = *set;
        // Sets of one transaction are told apart by this number; the position serves.
        let number = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        let operation = format!("add nftables set `{table}/{}`", set.name);
        self.push(operation, NEW_SET, NLM_F_CREATE, family, move |writer| {
            writer.string(1, table);
            writer.string(2, set.name);
            writer.u32_be(3, if set.data.is_empty() { 0 } else { SET_FLAG_MAP });
            let (key_type, key_length) = DataType::concatenated(set.key);
            writer.u32_be(4, key_type);
            writer.u32_be(5, key_length);
            if !set.data.is_empty() {
                let (data_type, data_length) = DataType::concatenated(set.data);
                writer.u32_be(6, data_type);
                writer.u32_be(7, data_length);
            }
            writer.u32_be(10, number);
        })
    }

    /// Deletes a set no rule uses.
    pub fn delete_set(&mut self, family: Family, table: &'a str, set: &'a str) -> &mut Self {
        self.push(
            format!("delete nftables set `{table}/{set}`"),
            DELETE_SET,
            0,
            family,
            move |writer| {
                writer.string(1, table);
                writer.string(2, set);
            },
        )
    }

    /// Adds elements to a set or map. An equal element that is there already is no error.
    pub fn add_elements(
        &mut self,
        family: Family,
        table: &'a str,
        set: &'a str,
        elements: Vec<Element>,
    ) -> &mut Self {
        self.push_elements(
            "add to",
            NEW_ELEMENTS,
            NLM_F_CREATE,
            (family, table, set),
            elements,
        )
    }

    /// Adds elements to a set or map, each of which must be new: `EEXIST` otherwise.
    pub fn claim_elements(
        &mut self,
        family: Family,
        table: &'a str,
        set: &'a str,
        elements: Vec<Element>,
    ) -> &mut Self {
        self.push_elements(
            "add to",
            NEW_ELEMENTS,
            NLM_F_CREATE | NLM_F_EXCL,
            (family, table, set),
            elements,
        )
    }

    /// Deletes elements, each of which must exist.
    pub fn delete_elements(
        &mut self,
        family: Family,
        table: &'a str,
        set: &'a str,
        elements: Vec<Element>,
    ) -> &mut Self {
        self.push_elements(
            "delete from",
            DELETE_ELEMENTS,
            0,
            (family, table, set),
            elements,
        )
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// The first refused change.
    pub fn commit(self, socket: &mut NftSocket) -> Result<(), NetlinkError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let count =
            u32::try_from(self.changes.len()).expect("transactions hold a handful of changes");
        let socket = &mut socket.socket;
        let begin = socket.take_sequence(count + 2);
        let first = begin.wrapping_add(1);
        let mut writer = MessageWriter::default();
        write_batch_mark(&mut writer, BATCH_BEGIN, begin);
        let mut operations = Vec::with_capacity(self.changes.len());
        for (change, sequence) in self.changes.into_iter().zip(first..) {
            writer.begin_message(
                message_kind(change.kind),
                NLM_F_REQUEST | change.flags,
                sequence,
            );
            writer.raw(&[change.family.number(), 0, 0, 0]);
            (change.body)(&mut writer);
            writer.end_message();
            operations.push(change.operation);
        }
        write_batch_mark(&mut writer, BATCH_END, first.wrapping_add(count));
        let exchange = |source| NetlinkError::Exchange {
            operation: operations[0].clone(),
            source,
        };
        socket.send(&writer.finish()).map_err(exchange)?;
        // A transaction that went well answers nothing; refusals are queued when `send` returns.
        let mut failure = None;
        socket
            .receive(|reply| {
                let position = reply.sequence.wrapping_sub(first);
                if let (NLMSG_ERROR, Err(source), None) = (reply.kind, reply.status(), &failure) {
                    let at = usize::try_from(position).unwrap_or(usize::MAX);
                    let operation = operations
                        .get(at)
                        .cloned()
                        .unwrap_or_else(|| "run nftables transaction".to_owned());
                    failure = Some(NetlinkError::Refused { operation, source });
                }
                Progress::Continue
            })
            .map_err(exchange)?;
        failure.map_or(Ok(()), Err)
    }

    fn push_elements(
        &mut self,
        verb: &str,
        kind: u16,
        flags: u16,
        (family, table, set): (Family, &'a str, &'a str),
        elements: Vec<Element>,
    ) -> &mut Self {
        if elements.is_empty() {
            return self;
        }
        self.push(
            format!("{verb} nftables set `{table}/{set}`"),
            kind,
            flags,
            family,
            move |writer| {
                writer.string(1, table);
                writer.string(2, set);
                writer.nested(super::element::ELEMENTS, |writer| {
                    elements.iter().for_each(|element| element.write(writer));
                });
            },
        )
    }

    fn push(
        &mut self,
        operation: String,
        kind: u16,
        flags: u16,
        family: Family,
        body: impl FnOnce(&mut MessageWriter) + 'a,
    ) -> &mut Self {
        self.changes.push(Change {
            operation,
            kind,
            flags,
            family,
            body: Box::new(body),
        });
        self
    }
}

impl Default for Transaction<'_> {
    fn default() -> Self {
        Self::new()
    }
}

fn write_batch_mark(writer: &mut MessageWriter, kind: u16, sequence: u32) {
    writer.begin_message(kind, NLM_F_REQUEST, sequence);
    let [high, low] = SUBSYSTEM.to_be_bytes();
    writer.raw(&[0, 0, high, low]);
    writer.end_message();
}
