//! `[crio.network]`

use std::path::PathBuf;
use std::time::Duration;

use super::Config;

option_table! {
    /// `[crio.network]`: the pod network, set up by CNI plugins.
    pub struct NetworkConfig for Config, at [network] in "crio.network" {
        /// Name of the CNI network of pods. Empty takes the first configuration in lexical order.
        cni_default_network: String = Text("");
        /// Directory of CNI configurations.
        network_dir: PathBuf = Text("/etc/cni/net.d/") => .named("cni-config-dir");
        /// Directories of CNI plugins.
        plugin_dirs: Vec<PathBuf> = List(&["/opt/cni/bin/"]) => .named("cni-plugin-dir");
        /// How long a network that reports itself unready is still called ready. 0s turns the polling off.
        cni_status_grace_period: Duration = Text("0s") => .env(&["CNI_STATUS_GRACE_PERIOD"]);
    }
}
