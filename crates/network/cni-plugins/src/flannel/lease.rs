//! The node's lease, as flanneld writes it.

use std::path::Path;

use crioxide_files::read_to_string_limited;
use ipnet::IpNet;

const LIMIT: u64 = 64 * 1024;

/// What flanneld got for this node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// All pods' networks, IPv4 first.
    pub(super) networks: Vec<IpNet>,
    /// This node's part of them, IPv4 first.
    pub(super) subnets: Vec<IpNet>,
    pub(super) mtu: u32,
    /// Flannel masquerades itself.
    pub(super) masquerades: bool,
}

impl Lease {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = read_to_string_limited(path, LIMIT).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            format!("{error}{cause}")
        })?;
        Self::parse(&text).map_err(|reason| format!("`{}`: {reason}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .filter(|(found, _)| *found == key)
                .map(|(_, value)| value)
                .next_back()
        };
        let networks = |key: &str| -> Result<Vec<IpNet>, String> {
            let list = value(key).unwrap_or_default().split(',');
            let mut found = Vec::new();
            for text in list.filter(|text| !text.is_empty()) {
                let network: IpNet = text
                    .parse()
                    .map_err(|_| format!("`{key}` is not a network: `{text}`"))?;
                if !found.contains(&network.trunc()) {
                    found.push(network.trunc());
                }
            }
            Ok(found)
        };
        let mut lease = Self::default();
        lease.networks.extend(networks("FLANNEL_NETWORK")?);
        lease.networks.extend(networks("FLANNEL_IPV6_NETWORK")?);
        lease.subnets.extend(networks("FLANNEL_SUBNET")?);
        lease.subnets.extend(networks("FLANNEL_IPV6_SUBNET")?);
        let mut missing = Vec::new();
        if lease.networks.is_empty() {
            missing.push("FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK");
        }
        if lease.subnets.is_empty() {
            missing.push("FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET");
        }
        match value("FLANNEL_MTU") {
            Some(text) => {
                lease.mtu = text
                    .parse()
                    .map_err(|_| format!("`FLANNEL_MTU` is not a number: `{text}`"))?;
            }
            None => missing.push("FLANNEL_MTU"),
        }
        match value("FLANNEL_IPMASQ") {
            Some(text) => lease.masquerades = text == "true",
            None => missing.push("FLANNEL_IPMASQ"),
        }
        if missing.is_empty() {
            Ok(lease)
        } else {
            Err(format!("{} is missing", missing.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases() {
        let text = "FLANNEL_NETWORK=10.244.0.0/16,10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
            FLANNEL_IPV6_NETWORK=fd00::/56\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let lease = Lease::parse(text).unwrap();
        let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&lease.networks), ["10.244.0.0/16", "fd00::/56"]);
        assert_eq!(texts(&lease.subnets), ["10.244.1.0/24", "fd00:0:0:1::/64"]);
        assert_eq!((lease.mtu, lease.masquerades), (1450, true));
        let reason = Lease::parse("FLANNEL_NETWORK=10.244.0.0/16\n").unwrap_err();
        assert!(
            reason.contains("FLANNEL_SUBNET") && reason.contains("FLANNEL_MTU"),
            "{reason}"
        );
        assert!(Lease::parse("FLANNEL_NETWORK=x\n").is_err());
    }
}
