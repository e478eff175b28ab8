//! Which pods get what was made ahead. Nothing but new namespaces is touched, and these go with their descriptors.

use std::fs;

use crioxide_cni::{CniSettings, HostPorts, Preference, Timeouts};

use super::*;

fn spares(directory: &Path) -> Spares {
    let plugins = Builtin::default();
    let settings = CniSettings {
        conf_dir: directory.to_owned(),
        plugin_dirs: Vec::new(),
        cache_dir: directory.join("cache"),
        default_network: None,
        builtin: Box::new(plugins.clone()),
        preference: Preference::Builtin,
        fallback_bridge: None,
        host_ports: HostPorts::Mapped,
        timeouts: Timeouts::default(),
    };
    Spares {
        cni: Arc::new(Cni::new(settings)),
        plugins,
        ready: Mutex::default(),
        taken: Notify::new(),
    }
}

fn configure(directory: &Path, plugin: &str) {
    let list = format!(
        r#"{{"cniVersion":"1.0.0","name":"net","plugins":[{{"type":"{plugin}","ipam":{{"type":"host-local"}}}}]}}"#
    );
    fs::write(directory.join("10.conflist"), list).unwrap();
}

#[test]
fn a_pair_for_another_plugin_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let spares = spares(directory.path());
    let pin = directory.path().join("pin");
    for (made_for, taken_for, is_taken) in [
        ("bridge", "bridge", true),
        ("bridge", "ptp", false),
        ("ptp", "bridge", false),
        ("ptp", "ptp", true),
    ] {
        configure(directory.path(), made_for);
        assert!(spares.make_one().unwrap());
        configure(directory.path(), taken_for);
        let taken = spares.take(&pin);
        assert_eq!(taken.is_some(), is_taken, "{made_for}, then {taken_for}");
        // What is refused is not offered again.
        assert!(spares.take(&pin).is_none(), "{made_for}, then {taken_for}");
        spares.forget(&pin);
    }
}

#[test]
fn an_old_one_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let spares = spares(directory.path());
    configure(directory.path(), "ptp");
    assert!(spares.make_one().unwrap());
    let long_ago = Instant::now().checked_sub(AGE + Duration::from_secs(1));
    spares.ready()[0].0 = long_ago.unwrap();
    assert!(spares.take(&directory.path().join("pin")).is_none());
}
