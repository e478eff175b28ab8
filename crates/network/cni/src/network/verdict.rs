//! What a plugin may say of a pod.

use crate::{NetworkResult, PluginError};

/// Addresses that a result may hold; more are a broken plugin.
const ADDRESS_LIMIT: usize = 256;

/// Passes a result on unless it cannot be true. Host ports lead to the addresses in it: one of the
/// host's loopback would open services of the host to everybody.
pub(crate) fn believable(
    plugin: &str,
    result: NetworkResult,
) -> Result<NetworkResult, PluginError> {
    let refused = |reason: String| {
        Err(PluginError::Garbage {
            plugin: plugin.to_owned(),
            reason,
        })
    };
    if result.ips.len() > ADDRESS_LIMIT {
        return refused(format!("it holds {} addresses", result.ips.len()));
    }
    for ip in &result.ips {
        let address = ip.address.addr().to_canonical();
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return refused(format!("a pod cannot have address {address}"));
        }
        if ip
            .interface
            .is_some_and(|index| index >= result.interfaces.len())
        {
            return refused(format!(
                "address {address} is on an interface that the result does not name"
            ));
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SpecVersion;

    #[test]
    fn lies_are_refused() {
        let result = |value: &serde_json::Value| {
            let parsed = NetworkResult::parse(value, SpecVersion::V1_0_0).unwrap();
            believable("net", parsed)
        };
        for address in [
            "127.0.0.1/8",
            "0.0.0.0/0",
            "::1/128",
            "224.0.0.1/4",
            "::ffff:127.0.0.1/96",
        ] {
            assert!(
                result(&json!({"ips": [{"address": address}]})).is_err(),
                "{address}"
            );
        }
        let dangling = json!({"interfaces": [{"name": "a"}], "ips": [{"address": "10.0.0.1/8", "interface": 1}]});
        assert!(result(&dangling).is_err());
        let many = vec![json!({"address": "10.0.0.1/8"}); ADDRESS_LIMIT + 1];
        assert!(result(&json!({"ips": many})).is_err());
        let good = json!({"interfaces": [{"name": "a"}], "ips": [{"address": "10.0.0.1/8", "interface": 0}]});
        assert!(result(&good).is_ok() && result(&json!({})).is_ok());
    }
}
