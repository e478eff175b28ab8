//! The network of a machine on which none is configured.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::json;

use crate::{NetworkList, ParseConfigError};

/// A bridge of our own, used while the configuration directory is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackBridge {
    /// Name of the network.
    pub network: String,
    /// Name of the bridge.
    pub bridge: String,
    /// Pods get one address of each.
    pub subnets: Vec<IpNet>,
    /// Where addresses in use are recorded.
    pub data_dir: PathBuf,
}

impl FallbackBridge {
    /// The usual one: bridge `crioxide0`, records below `cache_dir`.
    pub fn new(subnets: Vec<IpNet>, cache_dir: &Path) -> Self {
        Self {
            network: "crioxide".to_owned(),
            bridge: "crioxide0".to_owned(),
            subnets,
            data_dir: cache_dir.join("networks"),
        }
    }

    /// The configuration list it stands for.
    ///
    /// # Errors
    /// When the network's name is not valid.
    pub(crate) fn list(&self) -> Result<NetworkList, ParseConfigError> {
        let ranges: Vec<_> = self
            .subnets
            .iter()
            .map(|subnet| json!([{"subnet": subnet.trunc()}]))
            .collect();
        let routes: Vec<_> = [("0.0.0.0/0", true), ("::/0", false)]
            .into_iter()
            .filter(|(_, v4)| {
                self.subnets
                    .iter()
                    .any(|subnet| subnet.addr().is_ipv4() == *v4)
            })
            .map(|(destination, _)| json!({"dst": destination}))
            .collect();
        let list = json!({
            "cniVersion": "1.0.0",
            "name": self.network,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": true,
                    "ipMasq": true,
                    "hairpinMode": true,
                    "ipam": {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": self.data_dir},
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        NetworkList::parse_list(Path::new("built-in default"), list.to_string().as_bytes())
    }
}
