//! Layers of overlay mounted by a program.

use crate::containers::container;
use crate::support::{TestStore, gnu_tar, image};
use crioxide_store::{
    IdRange, LayerId, MountAccess, MountIds, MountOptions, UnmountForce, Volatility,
};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PROGRAM: &str = "/usr/bin/fuse-overlayfs";

fn store() -> Option<TestStore> {
    if !Path::new(PROGRAM).exists() || !Path::new("/dev/fuse").exists() {
        println!("skipped: fuse-overlayfs is not installed, or the kernel has no fuse");
        return None;
    }
    TestStore::with(
        "",
        "overlay",
        &[&format!("overlay.mount_program={PROGRAM}")],
    )
}

/// The top layer of an image of two layers.
fn two_layers(store: &TestStore) -> LayerId {
    let tars = [("kept", "below"), ("gone", "above")].map(|(name, content)| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), content).unwrap();
        gnu_tar(
            directory.path(),
            &["--format=posix", "--owner=3", "--group=4"],
        )
        .unwrap()
    });
    let id = image(store, "example.org/two:1", &[&tars[0], &tars[1]]);
    LayerId::parse(&store.image(id.as_str()).unwrap().unwrap().layer).unwrap()
}

#[test]
fn a_program_mounts_what_the_kernel_would() {
    let Some(store) = store() else { return };
    let top = two_layers(&store);
    let made = container(&store, "fused", Some(top.as_str()));
    let layer = LayerId::parse(&made.layer).unwrap();
    let options = MountOptions {
        volatility: Volatility::Volatile,
        options: vec!["nodev".into()],
        ..Default::default()
    };
    let merged = store.mount(&layer, &options).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(merged.to_str().unwrap()));
    assert!(line.unwrap().contains("fuse.fuse-overlayfs"), "{line:?}");
    assert!(line.unwrap().contains("nodev"), "{line:?}");
    std::fs::remove_file(merged.join("gone")).unwrap();
    std::fs::write(merged.join("kept"), "changed").unwrap();
    std::fs::create_dir(merged.join("new")).unwrap();
    assert!(store.unmount(&layer, UnmountForce::One).unwrap());
    let merged = store.mount(&layer, &options).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&merged)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["kept", "new"]);
    assert_eq!(
        std::fs::read_to_string(merged.join("kept")).unwrap(),
        "changed"
    );
    // The image is as it was.
    let read_only = MountOptions {
        access: MountAccess::ReadOnly,
        ..Default::default()
    };
    let below = store.mount(&top, &read_only).unwrap();
    assert_eq!(
        std::fs::read_to_string(below.join("gone")).unwrap(),
        "above"
    );
    assert_eq!(
        std::fs::read_to_string(below.join("kept")).unwrap(),
        "below"
    );
    std::fs::write(below.join("x"), "").unwrap_err();
    let flag = store.path("graph/overlay/.has-mount-program");
    assert_eq!(std::fs::read_to_string(flag).unwrap(), "true");
    store.delete_container(&made.id).unwrap();
    assert!(!merged.exists());
}

#[test]
fn a_program_maps_owners() {
    let Some(store) = store() else { return };
    let top = two_layers(&store);
    let made = container(&store, "mapped", Some(top.as_str()));
    let layer = LayerId::parse(&made.layer).unwrap();
    let range = IdRange {
        container_id: 0,
        host_id: 700_000,
        size: 1000,
    };
    let options = MountOptions {
        ids: Some(MountIds {
            namespace: "/proc/self/ns/user".into(),
            uids: vec![range.clone()],
            gids: vec![range],
        }),
        ..Default::default()
    };
    let merged = store.mount(&layer, &options).unwrap();
    let kept = std::fs::metadata(merged.join("kept")).unwrap();
    assert_eq!((kept.uid(), kept.gid()), (700_003, 700_004));
    std::os::unix::fs::chown(merged.join("kept"), Some(700_009), Some(700_000)).unwrap();
    // On disk owners are those of the container, as in the layers below.
    let stored = store.layer_content(&layer).unwrap().join("kept");
    let stored = std::fs::metadata(stored).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (9, 0));
}

#[test]
fn what_a_program_complains_of_is_told() {
    let Some(unusable) = TestStore::with("", "overlay", &["overlay.mount_program=/bin/false"])
    else {
        return;
    };
    let made = container(&unusable, "refused", None);
    let layer = LayerId::parse(&made.layer).unwrap();
    let error = unusable
        .mount(&layer, &MountOptions::default())
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("/bin/false"), "{source}");
    assert!(unusable.mounted_at(&layer).unwrap().is_none());
}
