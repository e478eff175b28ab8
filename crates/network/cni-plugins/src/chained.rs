//! What plugins share that change what an earlier plugin of the list made.

pub(crate) mod bandwidth;
pub(crate) mod firewall;
pub(crate) mod portmap;
pub(crate) mod source_routing;
pub(crate) mod tuning;
pub(crate) mod vrf;

use crioxide_cni::{Call, NetworkResult, PluginError};

use crate::configuration::{invalid, previous_result};

/// The result to work on; without one the plugin is in the wrong place.
pub(crate) fn required_result(plugin: &str, call: &Call<'_>) -> Result<NetworkResult, PluginError> {
    previous_result(plugin, call)?.ok_or_else(|| {
        invalid(
            plugin,
            "there is no previous result: it must come behind a plugin that makes an interface",
        )
    })
}
