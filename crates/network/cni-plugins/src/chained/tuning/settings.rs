//! The tuning plugin's keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crioxide_cni::{Call, PluginError};
use crioxide_files::read_to_string_limited;
use crioxide_netlink::MacAddress;
use serde::Deserialize;

use super::NAME;
use crate::configuration::{MacOrder, invalid, read, requested_mac};

const DATA_DIR: &str = "/run/cni/tuning";
/// Where an administrator limits the settings that networks may make, one pattern a line.
const ALLOW_LIST: &str = "/etc/cni/tuning/allowlist.conf";
const LIST_LIMIT: u64 = 1024 * 1024;

/// Checked settings of a call.
#[derive(Debug)]
pub(super) struct Settings {
    /// Paths below `/proc/sys/net`, with values.
    pub(super) sysctls: Vec<(String, String)>,
    pub(super) mac: Option<MacAddress>,
    pub(super) promiscuous: Option<bool>,
    pub(super) mtu: Option<u32>,
    pub(super) all_multicast: Option<bool>,
    pub(super) tx_queue_len: Option<u32>,
    pub(super) data_dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    sysctl: BTreeMap<String, String>,
    #[serde(default)]
    promisc: bool,
    #[serde(default)]
    mtu: u32,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<u32>,
    #[serde(default)]
    data_dir: String,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: Requested,
}

/// What `args` ask for goes before the configuration.
#[derive(Default, Deserialize)]
struct Requested {
    #[serde(default)]
    sysctl: BTreeMap<String, String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<u32>,
}

impl Settings {
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let keys: Keys = read(NAME, call)?;
        let mac = requested_mac(NAME, call, MacOrder::ArgsWin)?;
        let asked = keys.args.cni;
        let mut wanted = keys.sysctl;
        wanted.extend(asked.sysctl);
        let sysctls: Vec<_> = wanted
            .iter()
            .map(|(key, value)| Ok((sysctl_path(key, call.ifname)?, value.clone())))
            .collect::<Result<_, String>>()
            .map_err(|reason| invalid(NAME, reason))?;
        check_allowed(Path::new(ALLOW_LIST), &sysctls)?;
        Ok(Self {
            sysctls,
            mac,
            promiscuous: asked.promisc.unwrap_or(keys.promisc).then_some(true),
            mtu: Some(asked.mtu.unwrap_or(keys.mtu)).filter(|mtu| *mtu > 0),
            all_multicast: asked.allmulti.or(keys.allmulti),
            tx_queue_len: asked.tx_queue_len.or(keys.tx_queue_len),
            data_dir: PathBuf::from(if keys.data_dir.is_empty() {
                DATA_DIR
            } else {
                &keys.data_dir
            }),
        })
    }

    pub(super) fn changes_link(&self) -> bool {
        self.mac.is_some()
            || self.promiscuous.is_some()
            || self.mtu.is_some()
            || self.all_multicast.is_some()
            || self.tx_queue_len.is_some()
    }
}

/// The path of a setting below `/proc/sys/net`. Only the network's settings are the pod's own.
///
/// With dots between the parts, slashes stand for dots in interface names, and the other way round.
fn sysctl_path(key: &str, ifname: &str) -> Result<String, String> {
    let key = key.replace("IFNAME", ifname);
    let first_separator = key.find(['.', '/']).map(|at| &key[at..=at]);
    let path: String = match first_separator {
        Some(".") => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => key.clone(),
    };
    let below = path.strip_prefix("net/").filter(|below| {
        !below.contains('\0')
            && below
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
    });
    below.map(str::to_owned).ok_or_else(|| {
        format!(
            "`sysctl`: `{}` is no setting below `net`",
            key.escape_default()
        )
    })
}

/// Without the file everything below `net` is allowed.
fn check_allowed(list: &Path, sysctls: &[(String, String)]) -> Result<(), PluginError> {
    let text = match read_to_string_limited(list, LIST_LIMIT) {
        Err(error) if error.is_not_found() => return Ok(()),
        text => text.map_err(|error| {
            PluginError::caused(NAME, crioxide_cni::error_code::IO_FAILURE, &error)
        })?,
    };
    let patterns: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    for (path, _) in sysctls {
        let dotted = format!("net.{}", path.replace('/', "."));
        if !patterns.iter().any(|pattern| matches(pattern, &dotted)) {
            return Err(invalid(
                NAME,
                format!("`sysctl`: `{dotted}` is not allowed by {}", list.display()),
            ));
        }
    }
    Ok(())
}

/// The regular expressions in use are names with `^`, `$`, `.*` and escaped dots. What is more is
/// matched by nothing: an allow list must never allow by mistake.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, from_start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let mut rest = text;
    let mut anchored = from_start;
    let parts: Vec<_> = pattern.split(".*").collect();
    for (position, part) in parts.iter().enumerate() {
        let literal = part.replace("\\.", ".");
        if literal.contains([
            '[', ']', '(', ')', '|', '+', '?', '{', '}', '\\', '*', '^', '$',
        ]) {
            return false;
        }
        let is_last = position + 1 == parts.len();
        let found = match (anchored, is_last && to_end) {
            (true, true) => (rest == literal).then_some(0),
            (true, false) => rest.starts_with(&literal).then_some(0),
            (false, true) => rest.ends_with(&literal).then(|| rest.len() - literal.len()),
            (false, false) => rest.find(&literal),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + literal.len()..];
        anchored = false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_the_network() {
        for (key, expected) in [
            ("net.core.somaxconn", Some("core/somaxconn")),
            ("net/core/somaxconn", Some("core/somaxconn")),
            (
                "net.ipv4.conf.IFNAME.arp_filter",
                Some("ipv4/conf/eth0/arp_filter"),
            ),
            (
                "net.ipv4.conf.eth0/100.arp_filter",
                Some("ipv4/conf/eth0.100/arp_filter"),
            ),
            ("kernel.core_pattern", None),
            ("net/../kernel/core_pattern", None),
            ("net.//.kernel", None),
            ("net", None),
            ("", None),
        ] {
            assert_eq!(sysctl_path(key, "eth0").ok().as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn the_allow_list() {
        for (pattern, text, expected) in [
            (
                "^net.ipv4.conf.eth0.arp_filter$",
                "net.ipv4.conf.eth0.arp_filter",
                true,
            ),
            ("^net\\.ipv4\\..*$", "net.ipv4.conf.all.x", true),
            ("^net.ipv6.*$", "net.ipv4.conf.all.x", false),
            ("ipv4", "net.ipv4.x", true),
            ("^net.core$", "net.core.somaxconn", false),
            ("^net.(core|ipv4).*$", "net.core.somaxconn", false),
            ("^.*somaxconn$", "net.core.somaxconn", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
