//! `[crio.nri]` and `[crio.nri.default_validator]`

use std::path::PathBuf;
use std::time::Duration;

use super::Config;

option_table! {
    /// `[crio.nri.default_validator]`: the built-in validator of what NRI plugins change.
    pub struct NriDefaultValidatorConfig for Config, at [nri.default_validator] in "crio.nri.default_validator" {
        /// Check what plugins ask for.
        nri_enable_default_validator: bool = Bool(false) => .no_env();
        /// Refuse plugins that add OCI hooks.
        nri_validator_reject_oci_hook_adjustment: bool = Bool(false) => .no_env();
        /// Refuse plugins that change the runtime's default seccomp profile.
        nri_validator_reject_runtime_default_seccomp_adjustment: bool = Bool(false) => .no_env();
        /// Refuse plugins that give unconfined containers a seccomp profile.
        nri_validator_reject_unconfined_seccomp_adjustment: bool = Bool(false) => .no_env();
        /// Refuse plugins that change a custom seccomp profile.
        nri_validator_reject_custom_seccomp_adjustment: bool = Bool(false) => .no_env();
        /// Refuse plugins that change namespaces.
        nri_validator_reject_namespace_adjustment: bool = Bool(false) => .no_env();
        /// Plugins without which no container is created.
        nri_validator_required_plugins: Vec<String> = List(&[]) => .no_env();
        /// Pod annotation that lifts the requirement.
        nri_validator_tolerate_missing_plugins_annotation: String = Text("") => .no_env();
    }
}

option_table! {
    /// `[crio.nri]`: plugins of the node resource interface.
    pub struct NriConfig for Config, at [nri] in "crio.nri" {
        /// Let NRI plugins see and change containers.
        enable_nri: bool = Bool(true) => .no_env();
        /// Socket on which external plugins connect.
        nri_listen: PathBuf = Text("/var/run/nri/nri.sock") => .no_env();
        /// Directory of plugins that the daemon starts itself.
        nri_plugin_dir: PathBuf = Text("/opt/nri/plugins") => .no_env();
        /// Directory of the plugins' configurations.
        nri_plugin_config_dir: PathBuf = Text("/etc/nri/conf.d") => .no_env();
        /// Allow only plugins that the daemon starts itself.
        nri_disable_connections: bool = Bool(false) => .no_env();
        /// How long a plugin may take to register.
        nri_plugin_registration_timeout: Duration = Text("5s") => .no_env();
        /// How long a plugin may take to answer.
        nri_plugin_request_timeout: Duration = Text("2s") => .no_env();
    }
    derived {
        /// `[crio.nri.default_validator]`, a table of options of its own.
        default_validator: NriDefaultValidatorConfig = NriDefaultValidatorConfig::default();
    }
}
