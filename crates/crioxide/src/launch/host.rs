//! Defaults that come from the machine.

use std::path::Path;

use crioxide_config::HostDefaults;
use crioxide_store::{StorageConf, StorageConfError};

/// What this host adds to the defaults: `storage.conf` and whether SELinux is on.
pub(crate) fn host_defaults() -> Result<HostDefaults, StorageConfError> {
    let storage = StorageConf::load()?;
    let defaults = HostDefaults::default();
    Ok(HostDefaults {
        root: storage.graph_root.unwrap_or(defaults.root),
        runroot: storage.run_root.unwrap_or(defaults.runroot),
        storage_driver: storage.driver,
        storage_options: storage.driver_options,
        selinux_enabled: selinux_enabled(),
    })
}

/// SELinux is enabled when its file system is mounted.
fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}
