//! Files and records of a node, without those that are meant to stay: logs, images, locks.

use std::path::{Path, PathBuf};

use super::Scope;

/// Folders of the base whose whole content belongs to living pods.
const VOLATILE: &[&str] = &["run", "ns", "exits", "attach", "oci", "ipam"];
/// Folders of the graph root with an entry, named by its id, per layer, container or image.
const BY_ID: &[&str] = &["overlay", "overlay-containers", "overlay-images"];

pub(super) fn list(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let place = scope.place();
    let mut found = Vec::new();
    for folder in VOLATILE {
        below(&place.base().join(folder), &mut found);
    }
    let mut stored = Vec::new();
    for folder in BY_ID {
        children(&place.root().join(folder), &mut stored);
    }
    found.extend(stored.into_iter().filter(|path| is_id(path)));
    children(&place.cni_cache().join("results"), &mut found);
    found
        .into_iter()
        .filter(|path| !stays(path))
        .map(|path| path.display().to_string())
}

/// Names and ids in the store's container lists.
pub(super) fn records(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let root = scope.place().root().to_owned();
    let lists = ["containers.json", "volatile-containers.json"];
    ["overlay", "btrfs", "vfs"]
        .into_iter()
        .flat_map(move |driver| lists.map(|name| (driver, name)))
        .flat_map(move |(driver, name)| {
            let path = root.join(format!("{driver}-containers")).join(name);
            let text = std::fs::read(path).unwrap_or_default();
            let list: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap_or_default();
            list.into_iter()
                .map(move |record| format!("{name} {} {}", record["id"], record["names"]))
        })
}

/// Locks and counters outlive what they guard; their presence says nothing. containers/storage remembers what it found
/// out about the kernel in the names of files like `overlay/metacopy()-false`, and crun caches compiled seccomp filters.
fn stays(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let of_driver = path
        .parent()
        .is_some_and(|parent| parent.ends_with("run/overlay"));
    let remembered = of_driver && (name.ends_with("-true") || name.ends_with("-false"));
    name.ends_with(".lock")
        || name == "lock"
        || name.ends_with(".json")
        || name.starts_with("last_reserved_ip")
        || name == "version"
        || remembered
        || path
            .parent()
            .is_some_and(|parent| parent.ends_with(".cache/seccomp"))
        || path.is_dir() && !is_id(path)
}

fn is_id(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn children(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.extend(entries.map(|entry| entry.path()));
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        }
        found.push(entry.path());
    }
}
