//! What the runtime tells plugins that declare a capability for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of the host to listen on; all when empty.
    #[serde(default, rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

/// Traffic limits, in bits per second and bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Rate into the pod.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ingress_rate: u64,
    /// Burst into the pod.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ingress_burst: u64,
    /// Rate out of the pod.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub egress_rate: u64,
    /// Burst out of the pod.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub egress_burst: u64,
}

/// Name service settings of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Addresses of a subnet that a pod may be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The subnet.
    pub subnet: IpNet,
    /// First address; the subnet's first when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_start: Option<IpAddr>,
    /// Last address; the subnet's last when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_end: Option<IpAddr>,
    /// Gateway; the subnet's first address when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A bandwidth annotation that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation `{annotation}` must be a quantity from 1k to 1P, not `{value}`")]
pub struct ParseBandwidthError {
    /// Name of the annotation.
    pub annotation: String,
    /// Its value.
    pub value: String,
}

impl Bandwidth {
    /// Reads Kubernetes' bandwidth annotations; `None` when there are none.
    ///
    /// # Errors
    /// When a value is no quantity, or out of Kubernetes' limits.
    pub fn from_annotations(
        annotations: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, ParseBandwidthError> {
        let read = |annotation: &str| {
            annotations
                .get(annotation)
                .map(|value| {
                    parse_quantity(value)
                        .filter(|rate| (1_000..=1_000_000_000_000_000).contains(rate))
                        .ok_or_else(|| ParseBandwidthError {
                            annotation: annotation.to_owned(),
                            value: value.clone(),
                        })
                })
                .transpose()
        };
        let ingress = read("kubernetes.io/ingress-bandwidth")?;
        let egress = read("kubernetes.io/egress-bandwidth")?;
        if ingress.is_none() && egress.is_none() {
            return Ok(None);
        }
        // The kernel's shaper wants some burst; as CRI-O, as much as its 32-bit field takes.
        let burst = |rate: Option<u64>| {
            if rate.is_some() {
                u64::from(u32::MAX >> 1)
            } else {
                0
            }
        };
        Ok(Some(Self {
            ingress_rate: ingress.unwrap_or(0),
            ingress_burst: burst(ingress),
            egress_rate: egress.unwrap_or(0),
            egress_burst: burst(egress),
        }))
    }
}

/// Kubernetes' quantities with their decimal and binary suffixes; fractions are rounded up.
fn parse_quantity(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let scaled = whole
        .checked_mul(scale)?
        .checked_add(fraction)?
        .checked_mul(factor)?;
    u64::try_from(scaled.div_ceil(scale)).ok()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("10M", Some(10_000_000)),
            ("1.5k", Some(1_500)),
            ("1Ki", Some(1024)),
            ("7", Some(7)),
            ("1.0005k", Some(1001)),
        ] {
            assert_eq!(parse_quantity(text), expected, "{text}");
        }
        for text in ["", "M", "1X", "-1", "1e3", ".", "99999999999999999999P"] {
            assert_eq!(parse_quantity(text), None, "{text}");
        }
    }

    #[test]
    fn bandwidth_annotations() {
        let mut annotations = BTreeMap::new();
        assert_eq!(Bandwidth::from_annotations(&annotations), Ok(None));
        annotations.insert(
            "kubernetes.io/ingress-bandwidth".to_owned(),
            "10M".to_owned(),
        );
        let bandwidth = Bandwidth::from_annotations(&annotations).unwrap().unwrap();
        assert_eq!(
            (
                bandwidth.ingress_rate,
                bandwidth.egress_rate,
                bandwidth.egress_burst
            ),
            (10_000_000, 0, 0)
        );
        annotations.insert("kubernetes.io/egress-bandwidth".to_owned(), "10".to_owned());
        let error = Bandwidth::from_annotations(&annotations)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("egress-bandwidth") && error.contains("`10`"),
            "{error}"
        );
    }
}
