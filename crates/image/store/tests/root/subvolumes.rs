//! What only btrfs can: limits of space, and subvolumes inside of layers.

use crate::containers::container;
use crate::support::{TestStore, gnu_tar, image};
use crioxide_store::{LayerId, MountOptions, Store, StoreOptions};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

fn big_image(store: &Store) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("big"), vec![7; 4 << 20]).unwrap();
    let tar = gnu_tar(dir.path(), &["--format=posix"]).unwrap();
    let id = image(store, "example.org/big:1", &[&tar]);
    store.image(id.as_str()).unwrap().unwrap().layer.clone()
}

#[test]
fn a_layer_cannot_grow_beyond_its_limit() {
    let Some(unlimited) = TestStore::new("btrfs") else {
        return;
    };
    let options = StoreOptions {
        graph_root: unlimited.path("limited"),
        run_root: unlimited.path("limited-run"),
        driver: "btrfs".into(),
        driver_options: vec!["btrfs.size=8M".into()],
        ..Default::default()
    };
    let store = Store::open(options).unwrap();
    let top = big_image(&store);
    let made = container(&store, "limited", Some(&top));
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    let noted = std::fs::read_to_string(unlimited.path("limited/btrfs/quotas").join(&layer));
    assert_eq!(noted.unwrap(), (8 << 20).to_string());
    // What it has from its image counts.
    let content = vec![1; 5 << 20];
    let written = std::fs::write(merged.join("too-much"), &content)
        .and_then(|()| std::fs::File::open(merged.join("too-much"))?.sync_all());
    let error = written.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    // Nobody else is limited by it.
    let other = container(&unlimited, "unlimited", Some(&big_image(&unlimited)));
    let other = LayerId::parse(&other.layer).unwrap();
    let roomy = unlimited.mount(&other, &MountOptions::default()).unwrap();
    std::fs::write(roomy.join("enough"), &content).unwrap();
    store.delete_container(&made.id).unwrap();
    let quotas = std::fs::read_dir(unlimited.path("limited/btrfs/quotas")).unwrap();
    assert_eq!(quotas.count(), 0);
    store.shut_down(crioxide_store::UnmountForce::All).unwrap();
}

#[test]
fn layers_are_subvolumes_and_go_with_those_in_them() {
    let Some(mut store) = TestStore::new("btrfs") else {
        return;
    };
    let top = big_image(&store);
    let made = container(&store, "nesting", Some(&top));
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    assert_eq!(std::fs::metadata(&merged).unwrap().ino(), 256);
    // As an engine in a privileged container makes them.
    let nested = merged.join("nested");
    let btrfs = Command::new("btrfs")
        .args(["-q", "subvolume", "create"])
        .arg(&nested)
        .output();
    if !btrfs.is_ok_and(|output| output.status.success()) {
        println!("skipped: btrfs is not installed");
        return;
    }
    std::fs::write(nested.join("file"), "x").unwrap();
    store.delete_container(&made.id).unwrap();
    store.reopen();
    let left = |folder: &str| std::fs::read_dir(store.path(folder)).unwrap().count();
    assert_eq!(left("graph/btrfs/subvolumes"), 1);
    assert_eq!(left("graph/btrfs/tempdirs"), 0);
}

#[test]
fn another_file_system_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        graph_root: directory.path().join("graph"),
        run_root: directory.path().join("run"),
        driver: "btrfs".into(),
        ..Default::default()
    };
    let error = Store::open(options).unwrap_err().to_string();
    assert!(
        error.contains("btrfs") && error.contains("graph"),
        "{error}"
    );
    assert!(!directory.path().join("graph/btrfs").exists());
}
