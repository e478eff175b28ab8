//! What only devicemapper has: a pool, its transactions, and limits by the size of volumes.

use crate::containers::container;
use crate::support::{TestStore, VOLUMES, gnu_tar, image, layer};
use crioxide_store::{CheckDepth, LayerId, MountOptions, Store, StoreOptions};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

fn tar(content: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), content).unwrap();
    gnu_tar(directory.path(), &["--format=posix"]).unwrap()
}

fn metadata(store: &TestStore, name: &str) -> PathBuf {
    store.path("graph/devicemapper/metadata").join(name)
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The name of the store's pool.
fn pool(store: &TestStore) -> String {
    use std::os::unix::fs::MetadataExt;
    let home = std::fs::metadata(store.path("graph/devicemapper")).unwrap();
    let (major, minor) = (rustix::fs::major(home.dev()), rustix::fs::minor(home.dev()));
    format!("container-{major}:{minor}-{}-pool", home.ino())
}

fn dmsetup(arguments: &[&str]) -> String {
    let output = Command::new("dmsetup").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Numbers of the volumes that `thin_dump` would list: all that the pool would refuse to make.
fn has_volume(store: &TestStore, number: u64) -> bool {
    let message = format!("create_thin {number}");
    let made = Command::new("dmsetup")
        .args(["message", &pool(store), "0", &message])
        .output()
        .unwrap();
    if made.status.success() {
        dmsetup(&["message", &pool(store), "0", &format!("delete {number}")]);
    }
    !made.status.success()
}

#[test]
fn volumes_are_devices_only_while_they_are_mounted() {
    let Some(store) = TestStore::new("devicemapper") else {
        return;
    };
    let id = image(&store, "example.org/a:1", &[&tar("one"), &tar("two")]);
    let top = store.image(id.as_str()).unwrap().unwrap().layer.clone();
    let made = container(&store, "mounted", Some(&top));
    let devices = || {
        let listed = dmsetup(&["ls"]);
        let prefix = pool(&store).replace("-pool", "");
        let own = listed.lines().filter(|line| line.starts_with(&prefix));
        own.map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let settle = |wanted: usize| {
        for _ in 0..1000 {
            if devices().len() == wanted {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{:?}", devices());
    };
    settle(1);
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(merged.join("file")).unwrap(), "two");
    settle(2);
    store
        .unmount(&layer, crioxide_store::UnmountForce::All)
        .unwrap();
    settle(1);
    // The files are those that containers/storage wrote.
    let base = read(metadata(&store, "base"));
    assert_eq!(base["initialized"], true);
    assert_eq!(base["size"], 128 << 20);
    assert_eq!(read(metadata(&store, &made.layer))["initialized"], false);
    let set = read(metadata(&store, "deviceset-metadata"));
    assert_eq!(set["BaseDeviceFilesystem"], "ext4");
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
}

#[test]
fn a_container_cannot_take_more_than_its_volume() {
    let Some(store) = TestStore::new("devicemapper") else {
        return;
    };
    let made = container(&store, "greedy", None);
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    let much = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "count=200", "status=none"])
        .arg(format!("of={}", merged.join("much").display()))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&much.stderr);
    assert!(complaint.contains("No space left"), "{complaint}");
    store.delete_container(&made.id).unwrap();
}

#[test]
fn transactions_that_were_cut_off_are_undone() {
    let Some(mut store) = TestStore::new("devicemapper") else {
        return;
    };
    let id = image(&store, "example.org/kept:1", &[&tar("kept")]);
    let kept = store.image(id.as_str()).unwrap().unwrap().layer.clone();
    let kept = LayerId::parse(&kept).unwrap();
    let number = read(metadata(&store, kept.as_str()))["device_id"]
        .as_u64()
        .unwrap();
    let cut_off = |store: &TestStore, name: &str, volume: u64| {
        let open = read(metadata(store, "transaction-metadata"));
        let open = open["open_transaction_id"].as_u64().unwrap() + 1;
        let text = json!({"open_transaction_id": open, "device_hash": name, "device_id": volume});
        let path = metadata(store, "transaction-metadata");
        std::fs::write(path, text.to_string()).unwrap();
    };
    // Killed before the volume was made; when it was made; and when it was written down.
    let lost = LayerId::generate();
    for step in 0..3 {
        let volume = number + 100;
        cut_off(&store, lost.as_str(), volume);
        if step > 0 {
            let message = format!("create_snap {volume} {number}");
            dmsetup(&["message", &pool(&store), "0", &message]);
            assert!(has_volume(&store, volume));
        }
        if step > 1 {
            let device = json!({"device_id": volume, "size": 128 << 20, "transaction_id": 9});
            std::fs::write(metadata(&store, lost.as_str()), device.to_string()).unwrap();
        }
        store.reopen();
        store.garbage_collect().unwrap();
        assert!(!has_volume(&store, volume), "{step}");
        assert!(!metadata(&store, lost.as_str()).exists(), "{step}");
        assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
    }
    // The volume of another has that number: only what the transaction names goes.
    cut_off(&store, "staged", number + 100);
    let again = layer(&store, Some(&kept), &tar("again"));
    assert!(store.layer(&again).unwrap().is_some());
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
}

#[test]
fn a_store_is_found_again_after_its_pool_was_taken_away() {
    let Some(mut store) = TestStore::new("devicemapper") else {
        return;
    };
    let id = image(&store, "example.org/a:1", &[&tar("one"), &tar("two")]);
    let made = container(&store, "kept", None);
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    std::fs::write(merged.join("written"), "here").unwrap();
    // As a reboot does.
    store.shut_down(crioxide_store::UnmountForce::All).unwrap();
    assert!(!dmsetup(&["ls"]).contains(&pool(&store)));
    store.reopen();
    assert!(store.image(id.as_str()).unwrap().is_some());
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    let text = std::fs::read_to_string(merged.join("written")).unwrap();
    assert_eq!(text, "here");
}

#[test]
fn a_layer_in_use_is_deleted_later() {
    let Some(mut store) = TestStore::new("devicemapper") else {
        return;
    };
    let made = container(&store, "busy", None);
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    // A mount that is lost in another namespace keeps the file system, as this file does.
    let open = std::fs::File::create(merged.join("open")).unwrap();
    let number = read(metadata(&store, &made.layer))["device_id"]
        .as_u64()
        .unwrap();
    store.delete_container(&made.id).unwrap();
    assert_eq!(read(metadata(&store, &made.layer))["deleted"], true);
    assert!(store.garbage_collect().unwrap().layers.is_empty());
    assert!(has_volume(&store, number));
    drop(open);
    store.reopen();
    store.garbage_collect().unwrap();
    assert!(!metadata(&store, &made.layer).exists() && !has_volume(&store, number));
}

#[test]
fn a_damaged_volume_is_told_and_repaired_by_nobody() {
    let Some(store) = TestStore::new("devicemapper") else {
        return;
    };
    let id = layer(&store, None, &tar("kept"));
    let path = metadata(&store, id.as_str());
    let mut device = read(path.clone());
    device["device_id"] = json!(4711);
    std::fs::write(&path, device.to_string()).unwrap();
    let findings = format!("{:?}", store.check(CheckDepth::Presence).unwrap());
    assert!(
        findings.contains(id.as_str()) && findings.contains("activate"),
        "{findings}"
    );
    std::fs::remove_file(path).unwrap();
    let findings = format!("{:?}", store.check(CheckDepth::Presence).unwrap());
    assert!(findings.contains("has no volume"), "{findings}");
}

#[test]
fn another_pool_is_not_taken_for_the_stores_own() {
    let Some(store) = TestStore::new("devicemapper") else {
        return;
    };
    let mut set = read(metadata(&store, "deviceset-metadata"));
    set["BaseDeviceUUID"] = json!("e8ee3fa4-ed22-4ff1-9a60-d4a9a6ae9d5d");
    std::fs::write(metadata(&store, "deviceset-metadata"), set.to_string()).unwrap();
    let open = |options: &[&str]| {
        Store::open(StoreOptions {
            graph_root: store.path("graph"),
            run_root: store.path("run"),
            driver: "devicemapper".into(),
            driver_options: options.iter().map(|&o| o.to_owned()).collect(),
            ..Default::default()
        })
        .unwrap_err()
        .to_string()
    };
    let error = open(VOLUMES);
    assert!(error.contains("not the pool"), "{error}");
    let error = open(&["dm.thinpooldev=/dev/mapper/no-such-pool"]);
    assert!(error.contains("no thin pool no-such-pool"), "{error}");
    let error = open(&["dm.directlvm_device=/dev/sdx"]);
    assert!(error.contains("lvcreate"), "{error}");
}

#[test]
fn without_a_device_mapper_the_reason_is_told() {
    if std::path::Path::new("/dev/mapper/control").exists() {
        println!("skipped: this kernel has a device mapper");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        graph_root: directory.path().join("graph"),
        run_root: directory.path().join("run"),
        driver: "devicemapper".into(),
        ..Default::default()
    };
    let error = Store::open(options).unwrap_err().to_string();
    assert!(error.contains("/dev/mapper/control"), "{error}");
}
