//! AppArmor on this node: whether it is on, which profiles are loaded, and our own default one.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crioxide_engine::ports::PortError;
use crioxide_files::read_to_string_limited;
use crioxide_runtime_spec::apparmor::AppArmor;

/// Largest list of profiles that is read, bytes.
const LIST_MAX: u64 = 4 << 20;
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// The compiler and loader of profiles, of Debian's package `apparmor`.
const PARSER: &str = "apparmor_parser";
/// Name of the default profile that is ours to make, as CRI-O calls it.
const OWN: &str = "crio-default";

/// What containers may not do under the default profile: mount, and write to the parts of /proc and /sys through which the
/// node is configured. It needs no file of the node's own AppArmor configuration.
const RULES: &str = "
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=crio-default,
  ptrace (trace, read, tracedby, readby) peer=crio-default,
  deny mount,
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny /proc/sys/[^kn]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
";

/// Whether the kernel has it switched on.
pub(super) fn state() -> AppArmor {
    match std::fs::read(ENABLED) {
        Ok(content) if content.first() == Some(&b'Y') => AppArmor::Enabled,
        _ => AppArmor::Disabled,
    }
}

/// Whether a profile of that name is loaded.
pub(super) fn is_loaded(profile: &str) -> Result<bool, PortError> {
    let list = read_to_string_limited(PROFILES, LIST_MAX)?;
    Ok(list.lines().any(|line| {
        line.rsplit_once(" (")
            .is_some_and(|(name, _)| name == profile)
    }))
}

/// Makes and loads the configured default profile if it is the one that is ours to make. What it says may change with our
/// version, so one that is loaded already is replaced.
pub(crate) fn load_default(configured: &str) {
    if configured != OWN || state() == AppArmor::Disabled {
        return;
    }
    match load() {
        Ok(()) => tracing::info!("Loaded the AppArmor profile {OWN}"),
        Err(error) => tracing::warn!("Failed to load the AppArmor profile {OWN}: {error}"),
    }
}

fn load() -> Result<(), PortError> {
    let text = format!("profile {OWN} flags=(attach_disconnected, mediate_deleted) {{{RULES}}}\n");
    let mut parser = Command::new(PARSER)
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {PARSER}: {error}"))?;
    let written = parser
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let done = parser
        .wait_with_output()
        .map_err(|error| format!("cannot wait for {PARSER}: {error}"))?;
    if !done.status.success() {
        let reason = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{PARSER}: {}", reason.trim()).into());
    }
    written.map_err(|error| format!("cannot hand the profile to {PARSER}: {error}").into())
}
