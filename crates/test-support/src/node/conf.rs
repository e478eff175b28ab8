//! The configuration files of a node.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::{NodeOptions, Place};
use crate::requirements;

/// Overrides the default handler of nodes whose test does not care.
const HANDLER: &str = "CRIOXIDE_TEST_HANDLER";

/// Programs that are handlers of their own name where they are installed, and under conmon as `conmon-<name>`.
const RUNTIMES: [&str; 3] = ["runc", "crun", "youki"];

pub(super) fn write(place: &Place, options: &NodeOptions) -> Result<()> {
    let base = place.base();
    put(&place.conf(), &crio_conf(place, options))?;
    let network = options.network.clone().unwrap_or_else(|| bridge(place));
    put(&base.join("cni/10-test.conflist"), &network)?;
    put(
        &base.join("etc/policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )?;
    put(&base.join("etc/registries.conf"), &registries(options))?;
    // Without it the host's own storage settings would be the defaults.
    let storage = format!(
        "[storage]\ndriver = \"{}\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        storage_driver(options),
        place.root().display(),
        place.runroot().display()
    );
    put(&base.join("etc/storage.conf"), &storage)
}

fn crio_conf(place: &Place, options: &NodeOptions) -> String {
    let base = place.base().display();
    let root = place.root().display();
    let driver = place.cgroup_driver();
    let log_level = if options.log_level.is_empty() {
        "debug"
    } else {
        &options.log_level
    };
    let default_handler = if options.default_handler.is_empty() {
        std::env::var(HANDLER).unwrap_or_else(|_| "builtin".to_owned())
    } else {
        options.default_handler.clone()
    };
    let plugins: Vec<String> = options
        .plugin_directories
        .iter()
        .map(|folder| format!("\"{}\"", folder.display()))
        .collect();
    let plugins = if plugins.is_empty() {
        format!("\"{base}/no-plugins\"")
    } else {
        plugins.join(", ")
    };
    let mut text = format!(
        r#"[crio]
root = "{root}"
runroot = "{base}/run"
storage_driver = "{}"
log_dir = "{base}/log"
version_file = "{base}/run/version"
clean_shutdown_file = "{base}/clean"
[crio.api]
{}
listen = "{base}/node.sock"
[crio.image]
{}
signature_policy = "{base}/etc/policy.json"
signature_policy_dir = "{base}/etc/policies"
namespaced_auth_dir = "{base}/etc/auth"
[crio.network]
network_dir = "{base}/cni"
plugin_dirs = [{plugins}]
[crio.nri]
enable_nri = false
[crio.runtime]
{}
cgroup_manager = "{driver}"
namespaces_dir = "{base}/ns"
container_exits_dir = "{base}/exits"
container_attach_socket_dir = "{base}/attach"
hooks_dir = ["{base}/hooks"]
log_level = "{log_level}"
default_runtime = "{default_handler}"
[crio.runtime.runtimes.builtin]
runtime_path = "builtin"
runtime_root = "{base}/oci/builtin"
monitor_cgroup = "pod"
"#,
        storage_driver(options),
        options.api_keys,
        options.image_keys,
        options.runtime_keys
    );
    for runtime in RUNTIMES {
        let Ok(path) = requirements::program(runtime) else {
            continue;
        };
        let path = path.display();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[crio.runtime.runtimes.{runtime}]\nruntime_path = \"{path}\"\nruntime_root = \"{base}/oci/{runtime}\"\nmonitor_cgroup = \"pod\"\n",
        );
        if let Ok(conmon) = requirements::program("conmon") {
            let name = under_conmon(runtime);
            let _ = write!(
                text,
                "[crio.runtime.runtimes.{name}]\nruntime_path = \"{path}\"\nruntime_root = \"{base}/oci/{name}\"\nmonitor_path = \"{}\"\nmonitor_cgroup = \"pod\"\n",
                conmon.display()
            );
        }
    }
    if let Ok(shim) = requirements::program(requirements::SHIM) {
        let _ = write!(
            text,
            "[crio.runtime.runtimes.shim]\nruntime_path = \"{}\"\nruntime_type = \"vm\"\nmonitor_cgroup = \"pod\"\n",
            shim.display()
        );
    }
    text.push_str(&options.more_tables);
    text
}

/// `conmon` is the usual pair.
fn under_conmon(runtime: &str) -> String {
    match runtime {
        "runc" => "conmon".to_owned(),
        other => format!("conmon-{other}"),
    }
}

fn storage_driver(options: &NodeOptions) -> &str {
    match options.storage_driver.as_str() {
        "" => "overlay",
        driver => driver,
    }
}

fn bridge(place: &Place) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": place.network(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": place.bridge(),
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": place.base().join("ipam"),
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "ranges": [[{"subnet": place.subnet()}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn registries(options: &NodeOptions) -> String {
    let mut text = "unqualified-search-registries = [\"registry.invalid\"]\n".to_owned();
    for host in &options.insecure_registries {
        let _ = write!(
            text,
            "[[registry]]\nlocation = \"{host}\"\ninsecure = true\n"
        );
    }
    text
}

fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write `{}`", path.display()))
}
