//! Whether packet rules are nftables' or iptables'.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crioxide_cni::Maker;
use crioxide_netlink::NetlinkError;
use crioxide_netlink::nft::{
    BaseChain, ChainKind, Comparison, Expression, Family, Hook, NftSocket, Register, Transaction,
};

use super::iptables::{Flavor, Iptables, IptablesError, Programs};
use super::sockets::NftSockets;

/// For one look at what the host has.
const PATIENCE: Duration = Duration::from_secs(10);
/// Made and deleted in one transaction. Not named as our own tables, which are watched.
const PROBE: &str = "crioxide-probe";

/// What keeps packet rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Sets in tables of our own, by netlink.
    Nftables,
    /// The reference plugins' chains, by the `iptables` programs.
    Iptables,
}

/// What plugins change packet rules with.
#[derive(Debug, Default)]
pub(crate) struct PacketRules {
    pub(crate) sockets: NftSockets,
    pub(crate) programs: Programs,
    preferred: OnceLock<Backend>,
}

impl PacketRules {
    /// Uses the `iptables` programs of a directory where no configuration says otherwise.
    pub(crate) fn by_iptables(dir: PathBuf) -> Self {
        Self {
            sockets: NftSockets::default(),
            programs: Programs::in_directory(dir),
            preferred: OnceLock::from(Backend::Iptables),
        }
    }

    /// The backend that a configuration asks for, or else the host's.
    pub(crate) fn backend(&self, asked: Option<&str>) -> Result<Backend, String> {
        match asked {
            None | Some("") => Ok(self.preferred()),
            Some("nftables") => Ok(Backend::Nftables),
            Some("iptables") => Ok(Backend::Iptables),
            Some(other) => Err(format!("unknown backend `{}`", other.escape_default())),
        }
    }

    /// nftables, unless only iptables works here. Looked at once.
    pub(crate) fn preferred(&self) -> Backend {
        *self.preferred.get_or_init(|| {
            let missing = match probe() {
                Ok(()) => {
                    tracing::info!(
                        "Packet rules of host ports and masquerading are kept in nftables"
                    );
                    return Backend::Nftables;
                }
                Err(error) => with_cause(&error),
            };
            match self.programs.chosen(true, Instant::now() + PATIENCE) {
                Ok(flavor) => {
                    tracing::info!(
                        "Packet rules of host ports and masquerading are kept by {flavor}, as nftables do not work here: {missing}"
                    );
                    Backend::Iptables
                }
                Err(error) => {
                    tracing::warn!(
                        "Host ports and masquerading will fail: neither nftables ({missing}) nor iptables ({error}) work here"
                    );
                    Backend::Nftables
                }
            }
        })
    }

    /// The iptables to search for `chain` of `table`: those of the chosen backend, and those that have it, when somebody
    /// else may have made it.
    pub(crate) fn holding(
        &self,
        chosen: Backend,
        maker: Maker,
        (table, chain): (&'static str, &str),
        deadline: Instant,
    ) -> Result<Vec<Iptables<'_>>, IptablesError> {
        let mut found: Vec<(bool, Flavor)> = Vec::new();
        let mut missing = None;
        if chosen == Backend::Iptables {
            for ipv4 in [true, false] {
                match self.programs.chosen(ipv4, deadline) {
                    Ok(flavor) => found.push((ipv4, flavor)),
                    Err(error) => missing = Some(error),
                }
            }
            // One family may be missing on a host that has no addresses of it.
            if let (true, Some(error)) = (found.is_empty(), missing) {
                return Err(error);
            }
        }
        if maker == Maker::Unknown {
            for (ipv4, flavor) in self.traces(table, chain) {
                if !found.contains(&(ipv4, flavor)) {
                    found.push((ipv4, flavor));
                }
            }
        }
        let tools = found
            .into_iter()
            .map(|(ipv4, flavor)| Iptables::new(&self.programs, ipv4, flavor, table, deadline));
        Ok(tools.collect())
    }

    /// Where a chain of iptables is, or may be, without starting a program.
    fn traces(&self, table: &str, chain: &str) -> Vec<(bool, Flavor)> {
        let mut found = Vec::new();
        if let Ok(mut socket) = self.sockets.get() {
            for (ipv4, family) in [(true, Family::Ip), (false, Family::Ip6)] {
                // What cannot be asked holds nothing.
                if socket.rule_count(family, table, chain).unwrap_or(0) > 0 {
                    found.push((ipv4, Flavor::Nft));
                }
            }
        }
        for (ipv4, list) in [(true, "ip_tables_names"), (false, "ip6_tables_names")] {
            let path = PathBuf::from("/proc/thread-self/net").join(list);
            let names = std::fs::read_to_string(path).unwrap_or_default();
            if names.lines().any(|name| name == table) {
                found.push((ipv4, Flavor::Legacy));
            }
        }
        found
    }
}

/// Whether the kernel has all that our rules need: it is asked to make some.
fn probe() -> Result<(), NetlinkError> {
    let mut socket = NftSocket::open()?;
    let (address, port) = (Register(0), Register(1));
    let translate = vec![
        Expression::LoadDestinationType(address),
        Expression::Compare(address, Comparison::Equal, vec![0; 4]),
        Expression::LoadNetwork(address, 16, 4),
        Expression::LoadDestinationPort(port),
        Expression::DestinationNat(Family::Ip, address, port),
    ];
    let masquerade = vec![
        Expression::LoadConnectionStatus(address),
        Expression::Masquerade,
    ];
    let mut transaction = Transaction::new();
    transaction.add_table(Family::Ip, PROBE);
    for (name, hook, rule) in [
        ("in", Hook::Prerouting, translate),
        ("out", Hook::Postrouting, masquerade),
    ] {
        let chain = BaseChain {
            name,
            kind: ChainKind::Nat,
            hook,
            priority: 0,
        };
        transaction
            .add_base_chain(Family::Ip, PROBE, &chain)
            .add_rule(Family::Ip, PROBE, name, rule);
    }
    transaction.delete_table(Family::Ip, PROBE);
    transaction.commit(&mut socket)
}

fn with_cause(error: &NetlinkError) -> String {
    std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_obeyed() {
        let rules = PacketRules::by_iptables(PathBuf::from("/nowhere"));
        for (asked, expected) in [
            (None, Some(Backend::Iptables)),
            (Some(""), Some(Backend::Iptables)),
            (Some("nftables"), Some(Backend::Nftables)),
            (Some("iptables"), Some(Backend::Iptables)),
            (Some("ebtables"), None),
        ] {
            assert_eq!(rules.backend(asked).ok(), expected, "{asked:?}");
        }
    }
}
