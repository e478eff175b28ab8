//! What an ADD gives back, in every version of the specification.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ParseVersionError, SpecVersion};

/// The result of attaching a pod to a network, independent of the specification's version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkResult {
    /// Links that were made, on the host and in the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses the pod was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// Routes inside the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name service for the pod.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// A network link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Interface name.
    pub name: String,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Largest packet in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the network namespace it is in; empty on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Socket of a user-space interface (since 1.1.0).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// PCI device (since 1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Address with its prefix length.
    pub address: IpNet,
    /// Default gateway of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into the interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route inside the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; the gateway of the address's subnet when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// TCP segment size to advertise, in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope as the kernel numbers it (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Name service settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers by preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains by preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A result that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ParseResultError {
    /// Not JSON, or not of a result's shape.
    #[error("parse CNI result")]
    Malformed {
        /// Where it fails.
        source: serde_json::Error,
    },
    /// Of a version that is not supported.
    #[error(transparent)]
    Version(#[from] ParseVersionError),
}

impl Dns {
    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl NetworkResult {
    /// Reads a result of any supported version. One without `cniVersion` is taken as `assumed`.
    ///
    /// # Errors
    /// When the version is not supported or the shape is wrong.
    pub fn parse(value: &Value, assumed: SpecVersion) -> Result<Self, ParseResultError> {
        if let Some(text) = value
            .get("cniVersion")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            text.parse::<SpecVersion>()?;
        } else {
            tracing::trace!(version = %assumed, "CNI result without version");
        }
        // The shapes differ only by keys that newer versions added and by `ips[].version`, which
        // the address itself tells.
        Self::deserialize(value).map_err(|source| ParseResultError::Malformed { source })
    }

    /// The result in the form of `version`, leaving out what that version does not know.
    pub fn to_value(&self, version: SpecVersion) -> Value {
        let mut shaped = self.clone();
        if version < SpecVersion::V1_1_0 {
            for interface in &mut shaped.interfaces {
                interface.mtu = None;
                interface.socket_path.clear();
                interface.pci_id.clear();
            }
            for route in &mut shaped.routes {
                *route = Route {
                    dst: route.dst,
                    gw: route.gw,
                    ..Route::to(route.dst)
                };
            }
        }
        let mut object = serde_json::Map::new();
        object.insert("cniVersion".to_owned(), json!(version.as_str()));
        if let Ok(Value::Object(fields)) = serde_json::to_value(&shaped) {
            object.extend(fields);
        }
        if version < SpecVersion::V1_0_0 {
            if let Some(Value::Array(ips)) = object.get_mut("ips") {
                for (ip, config) in ips.iter_mut().zip(&shaped.ips) {
                    ip["version"] = json!(if config.address.addr().is_ipv4() {
                        "4"
                    } else {
                        "6"
                    });
                }
            }
            object.entry("dns").or_insert_with(|| json!({}));
        }
        Value::Object(object)
    }

    /// The pod's addresses: those on an interface with a sandbox, or on no particular one.
    pub fn pod_addresses(&self) -> Vec<IpAddr> {
        let in_pod = |ip: &&IpConfig| {
            ip.interface
                .and_then(|index| self.interfaces.get(index))
                .is_none_or(|link| !link.sandbox.is_empty())
        };
        self.ips
            .iter()
            .filter(in_pod)
            .map(|ip| ip.address.addr())
            .collect()
    }
}

impl Route {
    /// A plain route to `dst`.
    pub fn to(dst: IpNet) -> Self {
        Self {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

#[cfg(test)]
mod tests;
