//! Host ports of a pod as the records keep them.

use crioxide_cri_api::v1;
use crioxide_node_records::annotations::values::PortMapping;
use thiserror::Error;

/// A host port that cannot be mapped.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PortMappingError {
    /// Outside 1..=65535.
    #[error("{what} port {port} is not in the range 1-65535")]
    Range {
        /// `host` or `container`.
        what: &'static str,
        /// The number given.
        port: i32,
    },
    /// Not an address.
    #[error("host IP {host_ip:?} is not an IP address")]
    Address {
        /// The text given.
        host_ip: String,
    },
}

/// Keeps the mappings that ask for a host port and checks them.
///
/// # Errors
/// Fails for ports above 65535, a missing container port, or a host IP that is no address.
pub fn host_ports(requested: &[v1::PortMapping]) -> Result<Vec<PortMapping>, PortMappingError> {
    requested
        .iter()
        .filter(|mapping| mapping.host_port > 0)
        .map(checked)
        .collect()
}

fn checked(mapping: &v1::PortMapping) -> Result<PortMapping, PortMappingError> {
    for (what, port) in [
        ("host", mapping.host_port),
        ("container", mapping.container_port),
    ] {
        if !(1..=65535).contains(&port) {
            return Err(PortMappingError::Range { what, port });
        }
    }
    if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(PortMappingError::Address {
            host_ip: mapping.host_ip.clone(),
        });
    }
    Ok(PortMapping {
        host_port: mapping.host_port,
        container_port: mapping.container_port,
        protocol: mapping.protocol().as_str_name().to_owned(),
        host_ip: mapping.host_ip.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_port: i32, container_port: i32, host_ip: &str) -> v1::PortMapping {
        v1::PortMapping {
            protocol: v1::Protocol::Udp.into(),
            container_port,
            host_port,
            host_ip: host_ip.into(),
        }
    }

    #[test]
    fn only_host_ports_are_kept() {
        let kept = host_ports(&[
            mapping(0, 80, ""),
            mapping(-1, 81, ""),
            mapping(18081, 82, "::1"),
        ])
        .unwrap();
        assert_eq!(
            kept,
            [PortMapping {
                host_port: 18081,
                container_port: 82,
                protocol: "UDP".into(),
                host_ip: "::1".into()
            }]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(
            host_ports(&[mapping(70000, 80, "")]),
            Err(PortMappingError::Range {
                what: "host",
                port: 70000
            })
        );
        assert_eq!(
            host_ports(&[mapping(80, 0, "")]),
            Err(PortMappingError::Range {
                what: "container",
                port: 0
            })
        );
        assert!(matches!(
            host_ports(&[mapping(80, 80, "0.0.0.0; drop")]),
            Err(PortMappingError::Address { .. })
        ));
    }
}
