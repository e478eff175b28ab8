//! Containers and mounts.

use crate::support::{TestStore, gnu_tar, image};
use crioxide_names::ContainerId;
use crioxide_store::{
    ContainerRecord, LayerId, MountAccess, MountOptions, NewContainer, Store, UnmountForce,
    Volatility,
};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn container(store: &Store, name: &str, parent: Option<&str>) -> Arc<ContainerRecord> {
    try_container(store, name, parent, Volatility::Volatile).unwrap()
}

/// A container that survives power cuts, and is seen by tools that know no volatile records (containers/storage < 1.45).
pub(crate) fn durable_container(store: &Store, name: &str, parent: &str) -> Arc<ContainerRecord> {
    try_container(store, name, Some(parent), Volatility::Durable).unwrap()
}

fn try_container(
    store: &Store,
    name: &str,
    parent: Option<&str>,
    volatility: Volatility,
) -> Result<Arc<ContainerRecord>, crioxide_store::ContainerError> {
    let parent = parent.map(|parent| LayerId::parse(parent).unwrap());
    let images = parent
        .as_ref()
        .map(|parent| store.images_using_layer(parent).unwrap());
    let image = images
        .unwrap_or_default()
        .first()
        .map(|image| image.id.clone());
    let mut new = new_container(name, parent);
    new.image = image.unwrap_or_default();
    new.volatility = volatility;
    store.create_container(new)
}

fn new_container(name: &str, parent: Option<LayerId>) -> NewContainer {
    NewContainer {
        id: ContainerId::generate(),
        names: vec![name.to_owned()],
        image: String::new(),
        parent_layer: parent,
        metadata: r#"{"pod-name":"<p>"}"#.into(),
        process_label: String::new(),
        mount_label: String::new(),
        mount_options: Vec::new(),
        uid_map: Vec::new(),
        gid_map: Vec::new(),
        volatility: Volatility::Volatile,
    }
}

pub(crate) fn a_container_has_its_label(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    if matches!(driver, "overlay" | "devicemapper") {
        // Its mounts have it, which takes a kernel with SELinux.
        return;
    }
    let top = small_image(&store);
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let mut new = new_container("labelled", Some(LayerId::parse(&top).unwrap()));
    new.mount_label = label.to_owned();
    let made = store.create_container(new).unwrap();
    let layer = LayerId::parse(&made.layer).unwrap();
    let options = MountOptions {
        mount_label: label.to_owned(),
        ..Default::default()
    };
    let merged = store.mount(&layer, &options).unwrap();
    let label_of = |path: &Path| {
        let mut value = vec![0; 100];
        let length = rustix::fs::lgetxattr(path, "security.selinux", &mut value);
        length.map(|length| String::from_utf8(value[..length].to_vec()).unwrap())
    };
    let wanted = format!("{label}\0");
    for inner in ["", "dir", "from-image"] {
        assert_eq!(label_of(&merged.join(inner)), Ok(wanted.clone()), "{inner}");
    }
    let image = store.layer_content(&LayerId::parse(&top).unwrap()).unwrap();
    assert_ne!(label_of(&image.join("dir")), Ok(wanted));
}

fn small_image(store: &Store) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("from-image"), "image").unwrap();
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    let tar = gnu_tar(dir.path(), &["--format=posix"]).unwrap();
    let id = image(store, "example.org/base:1", &[&tar]);
    store.image(id.as_str()).unwrap().unwrap().layer.clone()
}

pub(crate) fn a_container_lives_from_record_to_removal(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let top = small_image(&store);
    let made = container(&store, "k8s_app", Some(&top));
    let text =
        std::fs::read_to_string(store.path("graph/{driver}-containers/volatile-containers.json"))
            .unwrap();
    assert!(
        text.contains(r#""flags":{"MountLabel":"","ProcessLabel":"","Volatile":true}"#),
        "{text}"
    );
    assert!(text.contains(r"\u003cp\u003e"), "{text}");
    let other = store.another();
    assert_eq!(other.container("k8s_app").unwrap().unwrap(), made);
    let layer = LayerId::parse(&made.layer).unwrap();
    assert_eq!(
        other.layer(&layer).unwrap().unwrap().names,
        ["k8s_app-layer"]
    );
    assert!(
        try_container(&store, "k8s_app", None, Volatility::Volatile)
            .unwrap_err()
            .to_string()
            .contains("k8s_app")
    );
    for directory in [
        store.container_dir(&made.id),
        store.container_run_dir(&made.id),
    ] {
        std::fs::write(directory.unwrap().join("config.json"), "{}").unwrap();
    }
    store.set_container_metadata(&made.id, "{\"x\":1}").unwrap();
    assert_eq!(
        other.container(&made.id).unwrap().unwrap().metadata,
        "{\"x\":1}"
    );

    let options = MountOptions {
        volatility: Volatility::Volatile,
        ..Default::default()
    };
    let merged = store.mount(&layer, &options).unwrap();
    std::fs::write(merged.join("dir/new"), "x").unwrap();
    std::fs::remove_file(merged.join("from-image")).unwrap();
    // Of overlay: what it took away as well. Of a whole tree: what it has.
    let inodes = if driver == "overlay" { 4 } else { 3 };
    assert_eq!(store.layer_usage(&layer).unwrap().inodes, inodes);
    // A second user, in another process, shares the mount.
    assert_eq!(other.mount(&layer, &options).unwrap(), merged);
    assert!(!store.unmount(&layer, UnmountForce::One).unwrap());
    assert!(merged.join("dir/new").exists());
    assert!(other.unmount(&layer, UnmountForce::One).unwrap());
    assert!(store.mounted_at(&layer).unwrap().is_none());
    assert!(driver != "overlay" || !merged.join("dir").exists());
    // A volatile layer can be mounted again.
    store.mount(&layer, &options).unwrap();
    assert!(merged.join("dir/new").exists() && !merged.join("from-image").exists());
    other.delete_container(&made.id).unwrap();
    assert!(!merged.exists() && !store.container_dir(&made.id).unwrap().exists());
    assert!(store.layer(&layer).unwrap().is_none() && store.container(&made.id).unwrap().is_none());
}

pub(crate) fn an_image_in_use_stays(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let top = small_image(&store);
    let id = store.images().unwrap()[0].id.clone();
    let made = container(&store, "user", Some(&top));
    let error = store.delete_image(&id).unwrap_err();
    assert!(error.to_string().contains(&made.id), "{error}");
    let layer = LayerId::parse(&top).unwrap();
    let error = store.delete_layer(&layer).unwrap_err();
    assert!(error.to_string().contains("in use by"), "{error}");
    store.delete_container(&made.id).unwrap();
    store.delete_image(&id).unwrap();
    assert!(store.layer(&layer).unwrap().is_none());
}

pub(crate) fn an_image_is_mounted_read_only(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let top = small_image(&store);
    let merged = store
        .mount_image("example.org/base:1", &MountOptions::default())
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(merged.join("from-image")).unwrap(),
        "image"
    );
    let denied = std::fs::write(merged.join("x"), "").unwrap_err();
    assert_eq!(denied.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    store
        .unmount(&LayerId::parse(&top).unwrap(), UnmountForce::All)
        .unwrap();
    let empty = container(&store, "empty", None);
    let layer = LayerId::parse(&empty.layer).unwrap();
    let options = MountOptions {
        access: MountAccess::ReadOnly,
        options: vec!["nodev".into()],
        ..Default::default()
    };
    let merged = store.mount(&layer, &options).unwrap();
    assert_eq!(std::fs::read_dir(merged).unwrap().count(), 0);
    let bad = MountOptions {
        options: vec!["no-such-option=1".into()],
        ..Default::default()
    };
    let other = container(&store, "other", None);
    let error = store
        .mount(&LayerId::parse(&other.layer).unwrap(), &bad)
        .unwrap_err();
    assert!(
        format!("{error}: {:?}", std::error::Error::source(&error)).contains("no-such-option"),
        "{error:?}"
    );
}

pub(crate) fn many_threads_and_openings_make_and_remove_containers_at_once(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let top = small_image(&store);
    let other = store.another();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let store: &Store = if thread % 2 == 0 { &store } else { &other };
            let top = &top;
            scope.spawn(move || {
                for round in 0..8 {
                    let made = container(store, &format!("c{thread}-{round}"), Some(top));
                    let layer = LayerId::parse(&made.layer).unwrap();
                    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
                    assert!(merged.join("from-image").exists());
                    if round % 2 == 0 {
                        store.unmount(&layer, UnmountForce::One).unwrap();
                    }
                    store.delete_container(&made.id).unwrap();
                }
            });
        }
    });
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(store.layers().unwrap().len(), 1);
    assert_eq!(
        std::fs::read_to_string(store.path("run/{driver}-layers/mountpoints.json")).unwrap(),
        "[]"
    );
}
