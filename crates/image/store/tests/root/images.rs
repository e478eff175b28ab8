//! Images: lookups, names, deletion, additional stores.

use crate::support::{TestStore, image, layer, sha256};
use crioxide_store::{CheckDepth, Store, StoreOptions};

fn tar(file: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(file), file).unwrap();
    crate::support::gnu_tar(dir.path(), &["--format=posix"]).unwrap()
}

pub(crate) fn an_image_is_found_by_all_it_is_called(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let id = image(&store, "example.org/app:1", &[&tar("a"), &tar("b")]);
    let record = store.image(id.as_str()).unwrap().unwrap();
    assert_eq!(record.names_history, ["example.org/app:1"]);
    assert_eq!(record.created, "2024-05-06T07:08:09.5Z");
    for lookup in [
        "example.org/app:1",
        &record.digest,
        &id.as_str()[..3],
        &id.as_str()[..40],
    ] {
        assert_eq!(
            store.image(lookup).unwrap().unwrap().id,
            id.as_str(),
            "{lookup}"
        );
    }
    for unknown in [
        &id.as_str()[..2],
        "example.org/app",
        "fff0ff",
        "../../etc/passwd",
    ] {
        assert!(store.image(unknown).unwrap().is_none(), "{unknown}");
    }
    assert!(store.image_size(id.as_str()).unwrap() > 20_000);
    let manifest = store.image_big_data(id.as_str(), "manifest").unwrap();
    assert_eq!(sha256(&manifest).to_string(), record.digest);
    assert!(store.image_big_data(id.as_str(), "other").is_err());
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
}

pub(crate) fn names_move_and_leave_their_history(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let first = image(&store, "example.org/app:1", &[&tar("a")]);
    let second = image(&store, "example.org/app:2", &[&tar("b")]);
    store
        .add_names(second.as_str(), &["example.org/app:1".into()])
        .unwrap();
    let first = store.image(first.as_str()).unwrap().unwrap();
    assert!(first.names.is_empty());
    assert_eq!(first.names_history, ["example.org/app:1"]);
    let second = store.image("example.org/app:1").unwrap().unwrap();
    assert_eq!(
        second.names_history,
        ["example.org/app:1", "example.org/app:2"]
    );
    store.remove_name(&second.id, "example.org/app:2").unwrap();
    store
        .set_names(&second.id, &["example.org/new:1".into()])
        .unwrap();
    let again = store.another().image("example.org/new:1").unwrap().unwrap();
    assert_eq!(again.names, ["example.org/new:1"]);
    assert_eq!(again.names_history.len(), 3);
}

pub(crate) fn deleting_takes_the_layers_that_nothing_else_needs(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let base = tar("base");
    let one = image(&store, "example.org/one:1", &[&base, &tar("x")]);
    let two = image(&store, "example.org/two:1", &[&base, &tar("y")]);
    assert_eq!(store.layers().unwrap().len(), 3);
    store.delete_image(one.as_str()).unwrap();
    assert_eq!(store.layers().unwrap().len(), 2);
    assert!(store.delete_image(one.as_str()).is_err());
    store.delete_image(two.as_str()).unwrap();
    assert!(store.layers().unwrap().is_empty() && store.images().unwrap().is_empty());
    let left = |path: &str| std::fs::read_dir(store.path(path)).unwrap().count();
    let layers = match driver {
        "vfs" => "dir",
        "btrfs" => "subvolumes",
        "devicemapper" => "mnt",
        _ => "l",
    };
    assert_eq!(left(&format!("graph/{driver}/{layers}")), 0);
    // The folder of layers or links, and `tempdirs`, or all that a pool needs; the records, the lock and `tmp`; the records and the lock.
    assert_eq!(
        (
            left("graph/{driver}"),
            left("graph/{driver}-layers"),
            left("graph/{driver}-images")
        ),
        (if driver == "devicemapper" { 4 } else { 2 }, 3, 2)
    );
}

pub(crate) fn equal_layers_are_stored_once_even_when_committed_at_the_same_time(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let tar = tar("same");
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| layer(&store, None, &tar)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(store.layers().unwrap().len(), 1);
    assert_eq!(store.layers_by_diff_digest(&sha256(&tar)).unwrap().len(), 1);
    assert_eq!(
        store
            .layers_by_compressed_digest(&sha256(&tar))
            .unwrap()
            .len(),
        1
    );
    let kept = store.layer_directory("graph", ids[0].as_str());
    let others = std::fs::read_dir(kept.parent().unwrap()).unwrap();
    // Overlay has `l` and `tempdirs` beside, devicemapper the base, files on all volumes and the lock.
    let expected = match driver {
        "overlay" => 3,
        "devicemapper" => 5,
        _ => 1,
    };
    assert_eq!(others.count(), expected);
}

pub(crate) fn images_of_an_additional_store_are_used_and_not_changed(driver: &str) {
    let (Some(shared), Some(own)) = (TestStore::new(driver), TestStore::new(driver)) else {
        return;
    };
    let id = image(&shared, "example.org/shared:1", &[&tar("a"), &tar("b")]);
    let options = StoreOptions {
        graph_root: own.path("graph"),
        run_root: own.path("run"),
        driver: driver.to_owned(),
        additional_image_stores: vec![shared.path("graph")],
        ..Default::default()
    };
    let store = Store::open(options).unwrap();
    assert_eq!(
        store.image("example.org/shared:1").unwrap().unwrap().id,
        id.as_str()
    );
    assert!(store.image_big_data(id.as_str(), "manifest").is_ok());
    assert!(
        store
            .delete_image(id.as_str())
            .unwrap_err()
            .to_string()
            .contains("read-only")
    );
    let top = store.image(id.as_str()).unwrap().unwrap().layer.clone();
    let container = crate::containers::container(&store, "c", Some(&top));
    let layer = crioxide_store::LayerId::parse(&container.layer).unwrap();
    let merged = store.mount(&layer, &Default::default()).unwrap();
    assert_eq!(std::fs::read_to_string(merged.join("a")).unwrap(), "a");
    store.delete_container(&container.id).unwrap();
}

pub(crate) fn an_image_store_holds_images_and_their_layers_apart_from_containers(driver: &str) {
    let (Some(own), Some(apart)) = (TestStore::new(driver), TestStore::new(driver)) else {
        return;
    };
    let options = StoreOptions {
        graph_root: own.path("graph"),
        run_root: own.path("run"),
        driver: driver.to_owned(),
        image_store: Some(apart.path("images")),
        ..Default::default()
    };
    let store = Store::open(options).unwrap();
    let id = image(&store, "example.org/apart:1", &[&tar("a"), &tar("b")]);
    let top = store.image(id.as_str()).unwrap().unwrap().layer.clone();
    let top_id = crioxide_store::LayerId::parse(&top).unwrap();
    let content = store.layer_content(&top_id).unwrap();
    assert!(content.starts_with(apart.path("images")) && content.join("b").exists());
    assert!(apart.path("images/{driver}-images/images.json").exists());
    assert!(!own.path("graph/{driver}-layers/layers.json").exists());
    let container = crate::containers::container(&store, "c", Some(&top));
    let layer = crioxide_store::LayerId::parse(&container.layer).unwrap();
    let merged = store.mount(&layer, &Default::default()).unwrap();
    assert!(merged.starts_with(own.path("graph")) && merged.join("a").exists());
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
    store.delete_container(&container.id).unwrap();
    store.delete_image(id.as_str()).unwrap();
    assert!(!content.exists() && store.layers().unwrap().is_empty());
}
