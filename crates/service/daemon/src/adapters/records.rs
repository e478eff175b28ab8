//! Records and root filesystems in the containers/storage store.

mod images;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use crioxide_engine::ports::{
    ImageMount, Marker, MountedRoot, NewRecord, Ownership, PortError, PortResult, RecordDirs,
    Records, StoredRecord,
};
use crioxide_files::{
    AtomicOptions, InRoot, Sync as FileSync, atomic_write, read_limited, write_new,
};
use crioxide_names::ContainerId;
use crioxide_node_records::StorageMetadata;
use crioxide_runtime_spec::namespaces::UserNamespaceSource;
use crioxide_store::{
    ContainerRecord, IdRange, LayerId, MountAccess, MountIds, MountOptions, NewContainer, Store,
    UnmountForce, Volatility,
};

use crate::blocking;

/// Largest config.json or state.json that is read back, bytes.
const RECORD_FILE_MAX: u64 = 16 << 20;

/// The store behind the engine.
#[derive(Debug)]
pub(crate) struct StoreRecords {
    pub(crate) store: Arc<Store>,
}

impl StoreRecords {
    fn dirs(store: &Store, id: &str) -> PortResult<RecordDirs> {
        Ok(RecordDirs {
            persistent: store.container_dir(id)?,
            run: store.container_run_dir(id)?,
        })
    }
}

fn layer_of(store: &Store, id: &ContainerId) -> PortResult<Option<LayerId>> {
    match store.container(id.as_str())? {
        Some(record) => Ok(Some(LayerId::parse(&record.layer)?)),
        None => Ok(None),
    }
}

fn ranges(mappings: &[oci_spec::runtime::LinuxIdMapping]) -> Vec<IdRange> {
    let range = |mapping: &oci_spec::runtime::LinuxIdMapping| IdRange {
        container_id: mapping.container_id(),
        host_id: mapping.host_id(),
        size: mapping.size(),
    };
    mappings.iter().map(range).collect()
}

/// What the store needs to know of a user namespace, which is pinned by now.
pub(super) fn mount_ids(user: &UserNamespaceSource) -> Option<MountIds> {
    Some(MountIds {
        namespace: user.path.clone()?,
        uids: ranges(&user.uids),
        gids: ranges(&user.gids),
    })
}

fn give_to(path: &Path, ownership: &Ownership) -> PortResult<()> {
    super::host::label_file(path, &ownership.label)?;
    let Some(owner) = ownership.owner else {
        return Ok(());
    };
    let changed = std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid));
    changed
        .map_err(|error| format!("cannot change the owner of {}: {error}", path.display()).into())
}

/// Adds the right to pass to every directory above, as CRI-O does for containers with a user namespace.
fn open_the_way(rootfs: &Path) -> PortResult<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for directory in rootfs.ancestors() {
        let failed = |error| {
            format!(
                "cannot open the way through {}: {error}",
                directory.display()
            )
        };
        let mode = std::fs::metadata(directory)
            .map_err(failed)?
            .permissions()
            .mode();
        if mode & 0o111 != 0o111 {
            let wider = std::fs::Permissions::from_mode((mode & 0o7777) | 0o111);
            std::fs::set_permissions(directory, wider).map_err(failed)?;
        }
    }
    Ok(())
}

fn create(store: &Store, record: NewRecord) -> PortResult<RecordDirs> {
    let mut parent_layer = None;
    let mut image = String::new();
    if let Some(id) = &record.image {
        let found = store
            .image(id.as_str())?
            .ok_or_else(|| format!("image {id} is not in the store"))?;
        if !found.layer.is_empty() {
            parent_layer = Some(LayerId::parse(&found.layer)?);
        }
        image.clone_from(&found.id);
    }
    let id = record.id.clone();
    store.create_container(NewContainer {
        id: record.id,
        names: record.names,
        image,
        parent_layer,
        metadata: record.metadata.to_json(),
        process_label: record.labels.process,
        mount_label: record.labels.mount,
        mount_options: Vec::new(),
        uid_map: record
            .user
            .as_ref()
            .map(|user| ranges(&user.uids))
            .unwrap_or_default(),
        gid_map: record
            .user
            .as_ref()
            .map(|user| ranges(&user.gids))
            .unwrap_or_default(),
        volatility: Volatility::Volatile,
    })?;
    StoreRecords::dirs(store, id.as_str())
}

fn load(store: &Store) -> PortResult<Vec<StoredRecord>> {
    let mut found = Vec::new();
    for record in store.containers()? {
        match load_one(store, &record) {
            Ok(Some(record)) => found.push(record),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                "Skipping record {}: {}",
                record.id,
                crioxide_engine::chain(error.as_ref())
            ),
        }
    }
    Ok(found)
}

/// `None` for a container that is not CRI-O's.
fn load_one(store: &Store, record: &ContainerRecord) -> PortResult<Option<StoredRecord>> {
    let Ok(metadata) = StorageMetadata::parse(&record.metadata) else {
        return Ok(None);
    };
    let dirs = StoreRecords::dirs(store, &record.id)?;
    Ok(Some(StoredRecord {
        id: ContainerId::parse(&record.id)?,
        metadata,
        image: record.image.clone(),
        config: read_if_there(&dirs.persistent.join("config.json"))?,
        state: read_if_there(&dirs.persistent.join("state.json"))?,
        stopped: is_marked(&dirs, Marker::Stopped),
        network_stopped: is_marked(&dirs, Marker::NetworkStopped),
        checkpointing: super::checkpoints::is_under_way(&dirs),
        restoring: super::checkpoints::is_to_be_restored(&dirs),
        dirs,
    }))
}

fn marker_name(marker: Marker) -> &'static str {
    match marker {
        Marker::Stopped => "stopped",
        Marker::NetworkStopped => "network-stopped",
    }
}

/// CRI-O keeps the markers of a pod without infra process in its run directory, of any other in the persistent one.
fn is_marked(dirs: &RecordDirs, marker: Marker) -> bool {
    let name = marker_name(marker);
    [&dirs.persistent, &dirs.run]
        .iter()
        .any(|dir| dir.join(name).exists())
}

fn read_if_there(path: &Path) -> PortResult<Option<Vec<u8>>> {
    match read_limited(path, RECORD_FILE_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Volatile records end with the machine, so their files need no sync.
const VOLATILE: AtomicOptions = AtomicOptions {
    mode: 0o644,
    sync: FileSync::None,
};

#[async_trait]
impl Records for StoreRecords {
    async fn create(&self, record: NewRecord) -> PortResult<RecordDirs> {
        let store = self.store.clone();
        blocking::run(move || create(&store, record)).await
    }

    async fn mount(
        &self,
        id: &ContainerId,
        user: Option<UserNamespaceSource>,
        label: &str,
    ) -> PortResult<MountedRoot> {
        let (store, id, label) = (self.store.clone(), id.clone(), label.to_owned());
        blocking::run(move || {
            let layer = layer_of(&store, &id)?
                .ok_or_else(|| format!("container {id} is not in the store"))?;
            let options = MountOptions {
                access: MountAccess::ReadWrite,
                volatility: Volatility::Volatile,
                ids: user.as_ref().and_then(mount_ids),
                mount_label: label,
                ..MountOptions::default()
            };
            let (path, hold) = store.mount_and_hold(&layer, &options)?;
            Ok::<_, PortError>(MountedRoot {
                path,
                hold: Some(Box::new(hold)),
            })
        })
        .await
    }

    async fn unmount(&self, id: &ContainerId) -> PortResult<()> {
        let (store, id) = (self.store.clone(), id.clone());
        blocking::run(move || {
            if let Some(layer) = layer_of(&store, &id)? {
                store.unmount(&layer, UnmountForce::All)?;
            }
            Ok::<_, PortError>(())
        })
        .await
    }

    async fn mount_image(
        &self,
        dirs: &RecordDirs,
        number: usize,
        image: &ImageMount,
    ) -> PortResult<PathBuf> {
        let (store, run, image) = (self.store.clone(), dirs.run.clone(), image.clone());
        blocking::run(move || images::mount(&store, &run, number, &image)).await
    }

    async fn unmount_images(&self, dirs: &RecordDirs) -> PortResult<()> {
        let run = dirs.run.clone();
        blocking::run(move || images::unmount_all(&run)).await
    }

    async fn make_volume(
        &self,
        dirs: &RecordDirs,
        number: usize,
        ownership: Ownership,
    ) -> PortResult<PathBuf> {
        let run = dirs.run.clone();
        blocking::run(move || {
            let path = images::make_volume(&run, number)?;
            give_to(&path, &ownership)?;
            Ok::<_, PortError>(path)
        })
        .await
    }

    async fn open_the_way(&self, rootfs: &Path) -> PortResult<()> {
        let rootfs = rootfs.to_owned();
        blocking::run(move || open_the_way(&rootfs)).await
    }

    async fn remove(&self, id: &ContainerId) -> PortResult<()> {
        let (store, id) = (self.store.clone(), id.clone());
        blocking::run(move || {
            if store.container(id.as_str())?.is_some() {
                store.delete_container(id.as_str())?;
            }
            Ok::<_, PortError>(())
        })
        .await
    }

    async fn save_config(&self, dirs: &RecordDirs, json: Vec<u8>) -> PortResult<()> {
        let dirs = dirs.clone();
        blocking::run(move || {
            atomic_write(dirs.run.join("config.json"), &json, VOLATILE)?;
            atomic_write(dirs.persistent.join("config.json"), &json, VOLATILE)?;
            Ok::<_, PortError>(())
        })
        .await
    }

    async fn save_state(&self, dirs: &RecordDirs, json: String) -> PortResult<()> {
        let path = dirs.persistent.join("state.json");
        blocking::run(move || atomic_write(&path, json.as_bytes(), VOLATILE)).await
    }

    async fn mark(&self, dirs: &RecordDirs, marker: Marker) -> PortResult<()> {
        let name = marker_name(marker);
        let paths = [dirs.persistent.join(name), dirs.run.join(name)];
        blocking::run(move || {
            for path in paths {
                match atomic_write(&path, b"", VOLATILE) {
                    Err(_) if path.exists() => {}
                    result => result?,
                }
            }
            Ok::<_, PortError>(())
        })
        .await
    }

    async fn read_in_root(
        &self,
        rootfs: &Path,
        path: &str,
        max: u64,
    ) -> PortResult<Option<Vec<u8>>> {
        let (rootfs, path) = (rootfs.to_owned(), path.to_owned());
        blocking::run(
            move || match InRoot::open(&rootfs)?.read_limited(&path, max) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(PortError::from(error)),
            },
        )
        .await
    }

    async fn write_run_file(
        &self,
        dirs: &RecordDirs,
        name: &'static str,
        content: Vec<u8>,
        ownership: Ownership,
    ) -> PortResult<PathBuf> {
        let path = dirs.run.join(name);
        blocking::run(move || {
            write_new(&path, &content, VOLATILE.mode)?;
            give_to(&path, &ownership)?;
            Ok::<_, PortError>(path)
        })
        .await
    }

    async fn load(&self) -> PortResult<Vec<StoredRecord>> {
        let store = self.store.clone();
        blocking::run(move || load(&store)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_where_cri_o_keeps_them() {
        let (persistent, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = RecordDirs {
            persistent: persistent.path().to_owned(),
            run: run.path().to_owned(),
        };
        std::fs::write(run.path().join("stopped"), "").unwrap();
        std::fs::write(persistent.path().join("network-stopped"), "").unwrap();
        assert!(is_marked(&dirs, Marker::Stopped) && is_marked(&dirs, Marker::NetworkStopped));
        std::fs::remove_file(run.path().join("stopped")).unwrap();
        assert!(!is_marked(&dirs, Marker::Stopped));
    }
}
