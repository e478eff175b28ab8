//! Defaults that come from the machine.

use std::path::Path;

use crioxide_config::HostDefaults;

/// What this host adds to the defaults.
pub(crate) fn host_defaults() -> anyhow::Result<HostDefaults> {
    Ok(HostDefaults {
        selinux_enabled: selinux_enabled(),
        ..HostDefaults::default()
    })
}

/// SELinux is enabled when its file system is mounted.
fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}
