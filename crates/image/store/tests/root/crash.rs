//! What a crash can leave is removed, and only that.

use crate::support::{TestStore, image};
use crioxide_store::{CheckDepth, LayerId};

fn tar() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    crate::support::gnu_tar(dir.path(), &["--format=posix"]).unwrap()
}

pub(crate) fn leftovers_of_every_kind_are_collected(driver: &str) {
    let Some(mut store) = TestStore::new(driver) else {
        return;
    };
    let id = image(&store, "example.org/kept:1", &[&tar()]);
    let kept = crate::containers::container(&store, "kept", None);
    let unknown = LayerId::generate();
    store.leave_layer(unknown.as_str());
    for path in [
        "graph/{driver}-containers",
        "graph/{driver}-images",
        "run/{driver}-containers",
    ] {
        std::fs::create_dir_all(store.path(path).join(unknown.as_str()).join("diff")).unwrap();
    }
    std::fs::write(
        store.path(&format!("graph/{driver}-layers/{unknown}.tar-split.gz")),
        "",
    )
    .unwrap();
    std::fs::create_dir_all(store.path("graph/{driver}/tempdirs/temp-dir-crashed/7/diff")).unwrap();
    // Writers of records that were killed before their rename.
    let half_written = [
        "graph/{driver}-layers/.tmp-layers.json-8f9416483dd4317e",
        "run/{driver}-layers/.tmp-mountpoints.json-8f94",
    ]
    .map(|path| store.path(path));
    for path in &half_written {
        std::fs::write(path, "[").unwrap();
    }
    store.reopen();
    assert!(half_written.iter().all(|path| !path.exists()));
    assert!(
        !store
            .path("graph/{driver}/tempdirs/temp-dir-crashed")
            .exists()
    );
    let collected = store.garbage_collect().unwrap();
    assert_eq!(
        (collected.layers.len(), collected.paths.len()),
        (1, 3),
        "{collected:?}"
    );
    assert_eq!(store.garbage_collect().unwrap(), Default::default());
    assert!(
        store.image(id.as_str()).unwrap().is_some() && store.container(&kept.id).unwrap().is_some()
    );
    let findings = store.check(CheckDepth::Digests).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

pub(crate) fn a_layer_without_its_container_is_collected(driver: &str) {
    let Some(mut store) = TestStore::new(driver) else {
        return;
    };
    let kept = crate::containers::container(&store, "kept", None);
    let lost = crate::containers::container(&store, "lost", None);
    // The process ended after the layer's record and before the container's.
    let list = store.path("graph/{driver}-containers/volatile-containers.json");
    let mut records: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&list).unwrap()).unwrap();
    records.retain(|record| record["id"] != lost.id.as_str());
    std::fs::write(&list, serde_json::to_vec(&records).unwrap()).unwrap();
    store.reopen();
    assert!(store.container(&lost.id).unwrap().is_none());
    let collected = store.garbage_collect().unwrap();
    assert_eq!(collected.layers, std::slice::from_ref(&lost.layer));
    assert!(store.container(&kept.id).unwrap().is_some());
    // The name is free again.
    crate::containers::container(&store, "lost", None);
    assert_eq!(store.garbage_collect().unwrap(), Default::default());
}

pub(crate) fn half_made_layers_are_removed_when_the_store_is_opened(driver: &str) {
    let Some(mut store) = TestStore::new(driver) else {
        return;
    };
    image(&store, "example.org/kept:1", &[&tar()]);
    let path = store.path("graph/{driver}-layers/layers.json");
    let half = LayerId::generate();
    let half_made = store.leave_layer(half.as_str());
    let text = std::fs::read_to_string(&path).unwrap();
    let record = format!(
        r#",{{"id":"{half}","created":"0001-01-01T00:00:00Z","flags":{{"incomplete":true}}}}]"#
    );
    std::fs::write(&path, text.trim_end_matches(']').to_owned() + &record).unwrap();
    assert_eq!(store.layers().unwrap().len(), 2);
    store.reopen();
    assert_eq!(store.layers().unwrap().len(), 1);
    assert!(!half_made.exists());
}

pub(crate) fn a_failed_unpack_leaves_nothing(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let tar = tar();
    let mut staging = store.stage_layer().unwrap();
    assert!(staging.unpack(&tar[..1200]).is_err());
    drop(staging);
    for staging in ["graph/{driver}/tempdirs", "graph/{driver}-layers/tmp"] {
        for entry in std::fs::read_dir(store.path(staging)).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                path.is_file() || std::fs::read_dir(&path).unwrap().count() == 0,
                "{path:?}"
            );
        }
    }
}

pub(crate) fn damage_is_found(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let id = image(&store, "example.org/bad:1", &[&tar()]);
    let layer = store.image(id.as_str()).unwrap().unwrap().layer.clone();
    let diff = store
        .layer_content(&LayerId::parse(&layer).unwrap())
        .unwrap();
    std::fs::write(diff.join("file"), "contenT").unwrap();
    assert!(store.check(CheckDepth::Presence).unwrap().is_empty());
    let findings = format!("{:?}", store.check(CheckDepth::Digests).unwrap());
    assert!(
        findings.contains("changed") && findings.contains(&layer),
        "{findings}"
    );
    std::fs::remove_dir_all(&*diff).unwrap();
    assert!(
        format!("{:?}", store.check(CheckDepth::Presence).unwrap())
            .contains("directory is missing")
    );
}
