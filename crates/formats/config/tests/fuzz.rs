//! Damaged crio.conf: read or refused, and a refusal has a message.
#![allow(clippy::unwrap_used, reason = "the panic is the test's report")]

use crioxide_config::{ConfigFile, HostDefaults, resolve};
use proptest::prelude::*;
use proptest::sample::Index;

const WHOLE: &str = r#"[crio]
root = "/var/lib/containers/storage"
storage_driver = "overlay"
storage_option = ["overlay.mountopt=nodev"]
[crio.api]
listen = "/run/crio/crio.sock"
stream_port = "0"
[crio.runtime]
default_runtime = "runc"
log_level = "info"
default_ulimits = ["nofile=1024:2048"]
default_sysctls = ["net.ipv4.ip_forward=1"]
[crio.runtime.runtimes.runc]
runtime_path = "/usr/bin/runc"
allowed_annotations = ["io.kubernetes.cri-o.Devices"]
[crio.runtime.workloads.w]
activation_annotation = "a.b/c"
resources = { cpushares = 5, cpuset = "0-1" }
[crio.image]
pause_image = "registry.k8s.io/pause:3.10"
pull_progress_timeout = "10s"
pinned_images = ["a/*"]
[crio.network]
plugin_dirs = ["/opt/cni/bin"]
[crio.metrics]
metrics_port = 9090
"#;

proptest! {
    #[test]
    fn damaged_files_are_read_or_refused(damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6)) {
        let mut text = WHOLE.as_bytes().to_vec();
        for (index, value) in damage {
            let at = index.index(text.len());
            text[at] = value;
        }
        let text = String::from_utf8_lossy(&text);
        let file = ConfigFile::new("/etc/crio/crio.conf", text);
        if let Err(error) = resolve(&HostDefaults::default(), &[file], &[]) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
