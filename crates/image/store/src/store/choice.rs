//! Which driver a store is opened with.

use super::OpenError;
use std::path::Path;

/// Drivers by the directory that each has below the graph root. Whichever has one there is taken when none is configured;
/// vfs is not among them, as it is only taken by name.
const CURRENT: [&str; 3] = ["overlay", "btrfs", "zfs"];
/// What containers/storage had in the past. Their directories are left where others are used.
const PAST: [&str; 2] = ["devicemapper", "aufs"];

/// The driver called `name`; without a name the one that the store at `graph_root` was made with, else overlay.
pub(super) fn choose(name: &str, graph_root: &Path) -> Result<&'static str, OpenError> {
    let name = match name {
        "" => of_store(graph_root)?,
        name => name,
    };
    let refuse = |reason: &'static str| {
        Err(OpenError::UnsupportedDriver {
            driver: name.to_owned(),
            reason,
        })
    };
    match name {
        "overlay" | "overlay2" => Ok("overlay"),
        "btrfs" => Ok("btrfs"),
        "vfs" => Ok("vfs"),
        "devicemapper" => Ok("devicemapper"),
        "aufs" => match kernel_has("aufs") {
            true => Ok("aufs"),
            false => refuse("the kernel has no aufs"),
        },
        "zfs" => refuse("not built yet"),
        _ => refuse("unknown, expected overlay, btrfs, devicemapper, aufs or vfs"),
    }
}

fn of_store(graph_root: &Path) -> Result<&'static str, OpenError> {
    let is_there = |driver: &&str| graph_root.join(driver).is_dir();
    let found: Vec<_> = CURRENT.into_iter().filter(is_there).collect();
    match found[..] {
        [] => Ok(PAST.into_iter().find(is_there).unwrap_or("overlay")),
        [driver] => Ok(driver),
        _ => Err(OpenError::SeveralDrivers {
            root: graph_root.to_owned(),
            drivers: found.join(", "),
        }),
    }
}

fn kernel_has(file_system: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines()
        .any(|line| line.split_whitespace().next_back() == Some(file_system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_decides_where_nothing_is_configured() {
        let root = tempfile::tempdir().unwrap();
        let choose = |name: &str| choose(name, root.path()).map_err(|error| error.to_string());
        assert_eq!(choose(""), Ok("overlay"));
        std::fs::create_dir(root.path().join("vfs")).unwrap();
        assert_eq!(choose(""), Ok("overlay"));
        let past = tempfile::tempdir().unwrap();
        std::fs::create_dir(past.path().join("devicemapper")).unwrap();
        assert_eq!(super::choose("", past.path()).unwrap(), "devicemapper");
        std::fs::create_dir(root.path().join("btrfs")).unwrap();
        assert_eq!(choose(""), Ok("btrfs"));
        std::fs::create_dir(root.path().join("devicemapper")).unwrap();
        assert_eq!(choose(""), Ok("btrfs"));
        std::fs::create_dir(root.path().join("overlay")).unwrap();
        let several = choose("").unwrap_err();
        assert!(several.contains("overlay, btrfs"), "{several}");
        assert_eq!(choose("overlay2"), Ok("overlay"));
    }

    #[test]
    fn drivers_that_cannot_be_used_are_refused_and_their_stores_left_alone() {
        for driver in ["aufs", "zfs"] {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join(driver)).unwrap();
            for name in ["", driver] {
                let error = choose(name, root.path()).unwrap_err().to_string();
                assert!(error.contains(driver), "{error}");
            }
        }
        let error = choose("floppy", Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("floppy"), "{error}");
    }
}
