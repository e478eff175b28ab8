//! Frames from a pod must carry its own hardware address.
//!
//! Table, chains and comments are the reference plugin's, so that either removes what the other made.

use crioxide_netlink::MacAddress;
use crioxide_netlink::NetlinkError;
use crioxide_netlink::nft::{
    BaseChain, ChainKind, Comparison, Expression, Family, Hook, Register, Transaction,
};

use super::iptables::CANARY;
use super::sockets::NftSockets;

const TABLE: &str = "nat";
const HOOK: &str = "PREROUTING";
/// Of `ebtables`: before addresses are translated.
const PRIORITY: i32 = -300;
/// Bytes of an interface's name.
const NAME_LENGTH: usize = 16;

/// The check of one interface of a pod.
#[derive(Debug)]
pub(crate) struct SpoofCheck<'a> {
    sockets: &'a NftSockets,
    port_chain: String,
    mac_chain: String,
    comment: String,
}

impl<'a> SpoofCheck<'a> {
    pub(crate) fn new(sockets: &'a NftSockets, container_id: &str, ifname: &str) -> Self {
        let port_chain = format!("cni-br-iface-{container_id}-{ifname}");
        Self {
            sockets,
            mac_chain: format!("{port_chain}-mac"),
            port_chain,
            comment: format!("macspoofchk-{container_id}-{ifname}"),
        }
    }

    /// Lets only frames from `mac` come in by the port. Run twice it is as run once.
    pub(crate) fn set_up(&self, port: &str, mac: MacAddress) -> Result<(), NetlinkError> {
        let mut socket = self.sockets.get()?;
        let stale = socket.rules(Family::Bridge, TABLE, HOOK)?;
        let has_canary = socket.rule_count(Family::Bridge, TABLE, CANARY)? > 0;
        let mut name = port.as_bytes().to_vec();
        name.resize(NAME_LENGTH, 0);
        let register = Register(0);
        let of_port = vec![
            Expression::LoadInputName(register),
            Expression::Compare(register, Comparison::Equal, name),
            Expression::Jump(self.port_chain.clone()),
        ];
        let of_pod = vec![
            Expression::LoadSourceMac(register),
            Expression::Compare(register, Comparison::Equal, mac.bytes().to_vec()),
            Expression::Return,
        ];
        let hook = BaseChain {
            name: HOOK,
            kind: ChainKind::Filter,
            hook: Hook::Prerouting,
            priority: PRIORITY,
        };
        let mut transaction = Transaction::new();
        transaction
            .add_table(Family::Bridge, TABLE)
            .add_base_chain(Family::Bridge, TABLE, &hook)
            .add_chain(Family::Bridge, TABLE, &self.port_chain)
            .add_chain(Family::Bridge, TABLE, &self.mac_chain)
            .flush_chain(Family::Bridge, TABLE, &self.port_chain)
            .flush_chain(Family::Bridge, TABLE, &self.mac_chain);
        if !has_canary {
            transaction
                .add_chain(Family::Bridge, TABLE, CANARY)
                .add_rule(Family::Bridge, TABLE, CANARY, vec![Expression::Return]);
        }
        for rule in stale {
            if rule.comment.as_deref() == Some(&self.comment) {
                transaction.delete_rule(Family::Bridge, TABLE, HOOK, rule.handle);
            }
        }
        let jump = vec![Expression::Jump(self.mac_chain.clone())];
        for (chain, rule) in [
            (self.mac_chain.as_str(), of_pod),
            (&self.mac_chain, vec![Expression::Drop]),
            (&self.port_chain, jump),
            (HOOK, of_port),
        ] {
            transaction.add_rule_of(Family::Bridge, TABLE, chain, rule, &self.comment);
        }
        transaction.commit(&mut socket)
    }

    /// Ends it. What is not there is no error.
    pub(crate) fn remove(&self) -> Result<(), NetlinkError> {
        let mut socket = self.sockets.get()?;
        let mut transaction = Transaction::new();
        for rule in socket.rules(Family::Bridge, TABLE, HOOK)? {
            if rule.comment.as_deref() == Some(&self.comment) {
                transaction.delete_rule(Family::Bridge, TABLE, HOOK, rule.handle);
            }
        }
        let mut there = Vec::new();
        for chain in [&self.port_chain, &self.mac_chain] {
            if socket.rule_count(Family::Bridge, TABLE, chain)? > 0 {
                transaction.flush_chain(Family::Bridge, TABLE, chain);
                there.push(chain);
            }
        }
        for chain in there {
            transaction.delete_chain(Family::Bridge, TABLE, chain);
        }
        transaction.commit(&mut socket)
    }

    /// Whether its rules are all there.
    pub(crate) fn is_in_place(&self) -> Result<bool, NetlinkError> {
        let mut socket = self.sockets.get()?;
        for (chain, wanted) in [
            (HOOK, 1),
            (self.port_chain.as_str(), 1),
            (&self.mac_chain, 2),
        ] {
            let rules = socket.rules(Family::Bridge, TABLE, chain)?;
            let own = rules
                .iter()
                .filter(|rule| rule.comment.as_deref() == Some(&self.comment));
            if own.count() < wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
