//! Host ports that CRI-O mapped by iptables, on a host without nftables.

use crioxide_cni::{Maker, PortMapping, Protocol};
use data_encoding::BASE32;
use sha2::{Digest, Sha256};
use std::time::Instant;

use crate::rules::iptables::{IptablesError, Script, Watched};
use crate::rules::{Backend, PacketRules};

const TABLE: &str = "nat";
/// The chain with the destination, and the one that masquerades what the pod sends to itself.
const PREFIXES: [&str; 2] = ["KUBE-HP-", "CRIO-MASQ-"];
/// CRI-O keeps this many digits.
const LENGTH: usize = 16;

/// Removes the chains of a pod's ports. None are no error.
pub(crate) fn release(
    rules: &PacketRules,
    pod: &str,
    ports: &[PortMapping],
    deadline: Instant,
) -> Result<(), IptablesError> {
    let chains: Vec<_> = ports.iter().map(|port| chains_of(pod, port)).collect();
    for [destination, masquerade] in &chains {
        // Only where they are: whoever chose nftables may have no iptables at all.
        let tools = rules.holding(
            Backend::Nftables,
            Maker::Unknown,
            (TABLE, destination),
            deadline,
        )?;
        for tool in tools {
            tool.change(Watched::No, |saved| {
                let mut script = Script::default();
                script
                    .remove_chain(saved, destination)
                    .remove_chain(saved, masquerade);
                Ok::<_, IptablesError>(script)
            })?;
        }
    }
    Ok(())
}

/// Names are made of the beginning of a SHA-256 sum of pod, port, protocol and address, in RFC 4648's base32.
fn chains_of(pod: &str, port: &PortMapping) -> [String; 2] {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    let text = format!("{pod}{}{protocol}{}", port.host_port, port.host_ip);
    let mut digits = BASE32.encode(&Sha256::digest(text));
    digits.truncate(LENGTH);
    PREFIXES.map(|prefix| format!("{prefix}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_as_cri_o_names_them() {
        let port = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: String::new(),
        };
        // From CRI-O's own tests.
        assert_eq!(
            chains_of(
                "0855d5396cdc673af13203c9cc5c95367cad0133306ba4d74d1da6e2876ebe51",
                &port
            ),
            ["KUBE-HP-7BDNOFFT2YWI552I", "CRIO-MASQ-7BDNOFFT2YWI552I"].map(str::to_owned)
        );
    }
}
