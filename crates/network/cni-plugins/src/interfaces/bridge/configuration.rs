//! The bridge plugin's keys.

mod trunk;

use crioxide_cni::{Call, Dns, PluginError};
use crioxide_netlink::MacAddress;
use serde::Deserialize;

use super::NAME;
use crate::configuration::{MacOrder, invalid, read, requested_mac};
use crate::ipam;
use trunk::Trunk;

const DEFAULT_BRIDGE: &str = "cni0";
const MOST_NAME: usize = 15;
pub(super) const LAST_VLAN: u16 = 4094;

/// Checked settings of a call.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) bridge: String,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) ip_masq: bool,
    pub(super) masquerade_backend: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) promiscuous: bool,
    pub(super) port: Port,
    /// A new bridge looks at tags.
    pub(super) filters_vlans: bool,
    /// Hardware address of the pod's interface.
    pub(super) mac: Option<MacAddress>,
    /// Only frames with the pod's hardware address come from it.
    pub(super) checks_spoofing: bool,
    /// The pod's interface stays down, without addresses: another system in the pod configures it.
    pub(super) leaves_pod_alone: bool,
    /// IPv6 addresses are looked for in the network before they are used.
    pub(super) detects_duplicates: bool,
    pub(super) dns: Dns,
}

/// What the bridge does with frames of one of its ports.
#[derive(Debug, Default, Clone)]
pub(super) struct Port {
    pub(super) hairpin: bool,
    pub(super) isolated: bool,
    pub(super) vlans: Vlans,
}

/// The VLANs of a port.
#[derive(Debug, Default, Clone)]
pub(super) struct Vlans {
    /// That of frames without a tag.
    pub(super) native: Option<u16>,
    pub(super) tagged: Vec<u16>,
    /// The port stays in the VLANs that the bridge gives all its ports.
    pub(super) keeps_default: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    bridge: String,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    force_address: bool,
    #[serde(default)]
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    promisc_mode: bool,
    #[serde(default)]
    vlan: i64,
    vlan_trunk: Option<Vec<Trunk>>,
    #[serde(default)]
    preserve_default_vlan: bool,
    #[serde(default, rename = "macspoofchk")]
    mac_spoof_check: bool,
    #[serde(default, rename = "enabledad")]
    enable_dad: bool,
    #[serde(default)]
    disable_container_interface: bool,
    #[serde(default)]
    port_isolation: bool,
    #[serde(default)]
    dns: Dns,
}

impl Settings {
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let keys: Keys = read(NAME, call)?;
        if keys.hairpin_mode && keys.promisc_mode {
            return Err(invalid(
                NAME,
                "`hairpinMode` and `promiscMode` cannot be set at the same time",
            ));
        }
        if keys.disable_container_interface && ipam::plugin_type(call).is_some() {
            return Err(invalid(
                NAME,
                "`disableContainerInterface` and `ipam` cannot be set at the same time",
            ));
        }
        let vlan = u16::try_from(keys.vlan)
            .ok()
            .filter(|id| *id <= LAST_VLAN)
            .ok_or_else(|| {
                let message = format!("`vlan` must be from 0 to {LAST_VLAN}, not {}", keys.vlan);
                invalid(NAME, message)
            })?;
        let native = Some(vlan).filter(|id| *id != 0);
        let tagged = trunk::ids(keys.vlan_trunk.as_deref().unwrap_or_default())
            .map_err(|reason| invalid(NAME, format!("`vlanTrunk`: {reason}")))?;
        let bridge = checked_name(keys.bridge)?;
        if let Some(id) = native.filter(|_| keys.is_gateway || keys.is_default_gateway) {
            checked_name(gateway_name(&bridge, id))?;
        }
        Ok(Self {
            is_gateway: keys.is_gateway || keys.is_default_gateway,
            is_default_gateway: keys.is_default_gateway,
            force_address: keys.force_address,
            ip_masq: keys.ip_masq,
            masquerade_backend: keys.ip_masq_backend,
            mtu: (keys.mtu > 0).then_some(keys.mtu),
            promiscuous: keys.promisc_mode,
            filters_vlans: native.is_some() || keys.vlan_trunk.is_some(),
            port: Port {
                hairpin: keys.hairpin_mode,
                isolated: keys.port_isolation,
                vlans: Vlans {
                    native,
                    tagged,
                    keeps_default: keys.preserve_default_vlan,
                },
            },
            mac: requested_mac(NAME, call, MacOrder::RuntimeWins)?,
            checks_spoofing: keys.mac_spoof_check,
            leaves_pod_alone: keys.disable_container_interface,
            detects_duplicates: keys.enable_dad,
            dns: keys.dns,
            bridge,
        })
    }
}

impl Vlans {
    pub(super) fn is_empty(&self) -> bool {
        self.native.is_none() && self.tagged.is_empty()
    }
}

/// The host's own port of a VLAN, which has the gateways' addresses.
pub(super) fn gateway_name(bridge: &str, vlan: u16) -> String {
    format!("{bridge}.{vlan}")
}

fn checked_name(name: String) -> Result<String, PluginError> {
    let name = if name.is_empty() {
        DEFAULT_BRIDGE.to_owned()
    } else {
        name
    };
    if name.len() > MOST_NAME || name.contains(['/', ':', ' ', '\0']) || name == "." || name == ".."
    {
        let shown = name.escape_default();
        return Err(invalid(
            NAME,
            format!("`bridge` is not an interface name: `{shown}`"),
        ));
    }
    Ok(name)
}
