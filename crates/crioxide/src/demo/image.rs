//! The configuration files of the demo's node, and its image in the store.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use crioxide_pull::{FileImage, LoadRequest, PolicySource, PullSettings, Puller};
use crioxide_store::{Store, StoreOptions};

use super::place::{CgroupDriver, Place};

/// Writes crio.conf, the network and the files that would otherwise be the host's.
pub(super) fn write_configuration(place: &Place) -> anyhow::Result<()> {
    for (name, text) in [
        ("etc/crio.conf", crio_conf(place)),
        (
            "etc/policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#.to_owned(),
        ),
        (
            "etc/registries.conf",
            "unqualified-search-registries = []\n".to_owned(),
        ),
        ("etc/storage.conf", storage_conf(place)),
        ("cni/10-demo.conflist", super::network::conflist(place)),
    ] {
        let path = place.base().join(name);
        std::fs::write(&path, text).with_context(|| format!("write `{}`", path.display()))?;
    }
    Ok(())
}

fn storage_conf(place: &Place) -> String {
    format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        place.root().display(),
        place.runroot().display()
    )
}

/// All of it is what it would be on a node, except for where things are.
fn crio_conf(place: &Place) -> String {
    let base = place.base().display();
    let driver = match place.driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    };
    format!(
        r#"[crio]
root = "{base}/root"
runroot = "{base}/run"
storage_driver = "overlay"
log_dir = "{base}/log"
version_file = "{base}/run/version"
clean_shutdown_file = "{base}/clean"
[crio.api]
listen = "{base}/crio.sock"
[crio.image]
signature_policy = "{base}/etc/policy.json"
signature_policy_dir = "{base}/etc/policies"
namespaced_auth_dir = "{base}/etc/auth"
[crio.network]
network_dir = "{base}/cni"
plugin_dirs = ["{base}/no-plugins"]
[crio.nri]
enable_nri = false
[crio.runtime]
cgroup_manager = "{driver}"
namespaces_dir = "{base}/ns"
container_exits_dir = "{base}/exits"
container_attach_socket_dir = "{base}/attach"
hooks_dir = ["{base}/hooks"]
default_runtime = "builtin"
[crio.runtime.runtimes.builtin]
runtime_path = "builtin"
runtime_root = "{base}/oci"
monitor_cgroup = "pod"
"#
    )
}

/// Makes the image out of this program and puts it into the store, before the daemon uses that.
pub(super) async fn load(place: &Place) -> anyhow::Result<((), String)> {
    let layout = place.base().join("layout");
    crioxide_demo_image::write_layout(&layout, Path::new("/proc/self/exe"))?;
    let store = Store::open(StoreOptions {
        graph_root: place.root(),
        run_root: place.runroot(),
        ..StoreOptions::default()
    })
    .context("open the demo's store")?;
    let mut settings = PullSettings::new(Arc::new(store));
    settings.registries.file = place.base().join("etc/registries.conf");
    settings.registries.drop_ins = place.base().join("etc/registries.conf.d");
    settings.policy = PolicySource::AcceptAnything;
    settings.scratch = place.base().to_owned();
    let puller = Puller::new(settings).context("prepare to load the image")?;
    let image = FileImage::parse(&format!("oci:{}", layout.display()))
        .context("name the image's layout")?;
    let request = LoadRequest {
        image,
        names: Vec::new(),
        progress: None,
    };
    let loaded = puller
        .load(request)
        .await
        .context("load the demo's image")?;
    std::fs::remove_dir_all(&layout).with_context(|| format!("remove `{}`", layout.display()))?;
    let id: String = loaded.id.to_string().chars().take(13).collect();
    Ok(((), format!("{}, id {id}", crioxide_demo_image::REFERENCE)))
}
