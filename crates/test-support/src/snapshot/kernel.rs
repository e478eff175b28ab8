//! Kernel objects: mounts, links, firewall rules, cgroups.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scope;

/// Mount points in this mount namespace, oldest first. Pinned namespaces are among them. The storage driver's own mount
/// comes with the first container and stays until the daemon's end.
pub(super) fn mounts(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let base = scope.place().base().to_owned();
    let driver_home = scope.place().root().join("overlay");
    let everywhere = matches!(scope, Scope::WholeHost(_));
    mount_points()
        .into_iter()
        .filter(move |path| everywhere || path.starts_with(&base))
        .filter(move |path| *path != driver_home)
        .map(|path| path.display().to_string())
}

pub(crate) fn mounts_below(base: &Path) -> Vec<PathBuf> {
    mount_points()
        .into_iter()
        .filter(|path| path.starts_with(base))
        .collect()
}

fn mount_points() -> Vec<PathBuf> {
    std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .collect()
}

/// Network links by name. The bridge of a node stays, as it does in Kubernetes; what is plugged into it must not.
pub(super) fn links(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let bridge = scope.place().bridge();
    let everywhere = matches!(scope, Scope::WholeHost(_));
    let names = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    names
        .filter(move |entry| {
            everywhere || {
                let master = std::fs::read_link(entry.path().join("master"));
                master.is_ok_and(|master| {
                    master
                        .file_name()
                        .is_some_and(|name| name == bridge.as_str())
                })
            }
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter({
            let bridge = scope.place().bridge();
            move |name| *name != bridge
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Lines of the ruleset that name an address of this node's pods; of the whole host, all that name an address.
/// The rules for the subnet itself may stay with the bridge.
pub(super) fn firewall(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let subnet = scope.place().subnet();
    let own = subnet_bytes(&subnet);
    let everywhere = matches!(scope, Scope::WholeHost(_));
    let listed = Command::new("nft").args(["list", "ruleset"]).output();
    let text = listed.map(|done| done.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .flat_map(|line| line.split([' ', ',', '{', '}', '\t']))
        .filter(|word| **word != subnet)
        .filter(|word| {
            everywhere && word.parse::<std::net::Ipv4Addr>().is_ok() || in_subnet(word, own)
        })
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

fn subnet_bytes(subnet: &str) -> Option<u32> {
    let address: std::net::Ipv4Addr = subnet.split('/').next()?.parse().ok()?;
    Some(u32::from(address) >> 12)
}

fn in_subnet(word: &str, own: Option<u32>) -> bool {
    let address = word.parse::<std::net::Ipv4Addr>().ok();
    // The gateway has the first address and belongs to the bridge.
    address.is_some_and(|address| {
        Some(u32::from(address) >> 12) == own && u32::from(address) & 0xfff != 1
    })
}

/// Directories below the cgroup mounts, without the node's topmost one.
pub(super) fn cgroups(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let name = scope.place().cgroup_name();
    let all = match scope {
        Scope::Node(_) => cgroups_of(&name),
        Scope::WholeHost(_) => all_cgroups(),
    };
    all.into_iter()
        .filter(move |path| !is_top(path, &name))
        .map(|path| path.display().to_string())
}

/// All cgroups of a node in every hierarchy, children before their parents.
pub(crate) fn cgroups_of(name: &str) -> Vec<PathBuf> {
    all_cgroups()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(name))
        .collect()
}

fn is_top(path: &Path, name: &str) -> bool {
    let last = path.file_name().unwrap_or_default().to_string_lossy();
    last == name || last == format!("{name}.slice")
}

fn all_cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
    {
        let is_cgroup = line
            .split_once(" - ")
            .is_some_and(|(_, after)| after.starts_with("cgroup"));
        if let (true, Some(mount)) = (is_cgroup, line.split(' ').nth(4)) {
            below(Path::new(mount), &mut found);
        }
    }
    found
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{in_subnet, subnet_bytes};

    #[test]
    fn addresses_of_pods_are_told_from_the_gateway() {
        let own = subnet_bytes("10.208.16.0/20");
        assert!(in_subnet("10.208.16.2", own));
        assert!(in_subnet("10.208.31.254", own));
        assert!(!in_subnet("10.208.16.1", own));
        assert!(!in_subnet("10.208.32.2", own));
        assert!(!in_subnet("accept", own));
    }
}
