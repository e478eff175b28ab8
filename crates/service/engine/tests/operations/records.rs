//! The fake host's store.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use crioxide_engine::ports::{
    ImageMount, Marker, MountedRoot, NewRecord, Ownership, PortResult, RecordDirs, Records,
    StoredRecord,
};
use crioxide_names::ContainerId;
use crioxide_runtime_spec::namespaces::UserNamespaceSource;

use crate::host::FakeHost;

impl FakeHost {
    /// The name under which a record is accounted: a pod's, or a container's.
    fn record_name(&self, id: &ContainerId) -> Option<&'static str> {
        let records = self.records.lock().unwrap();
        let record = records.get(id.as_str())?;
        Some(if record.metadata.pod {
            "record"
        } else {
            "container record"
        })
    }

    fn change(&self, dirs: &RecordDirs, change: impl FnOnce(&mut StoredRecord)) {
        let mut records = self.records.lock().unwrap();
        let record = records
            .values_mut()
            .find(|record| record.dirs.run == dirs.run);
        change(record.expect("a record with these directories"));
    }
}

#[async_trait]
impl Records for FakeHost {
    async fn create(&self, record: NewRecord) -> PortResult<RecordDirs> {
        self.step("records.create").await?;
        let dirs = RecordDirs {
            persistent: format!("/var/lib/{}", record.id).into(),
            run: format!("/run/{}", record.id).into(),
        };
        let stored = StoredRecord {
            checkpointing: false,
            restoring: false,
            id: record.id.clone(),
            metadata: record.metadata,
            image: String::new(),
            dirs: dirs.clone(),
            config: None,
            state: None,
            stopped: false,
            network_stopped: false,
        };
        let earlier = self
            .records
            .lock()
            .unwrap()
            .insert(record.id.to_string(), stored);
        assert!(earlier.is_none());
        self.take(self.record_name(&record.id).unwrap());
        Ok(dirs)
    }

    async fn open_the_way(&self, _: &Path) -> PortResult<()> {
        Ok(())
    }

    async fn mount(
        &self,
        id: &ContainerId,
        _: Option<UserNamespaceSource>,
        _: &str,
    ) -> PortResult<MountedRoot> {
        self.step("mount").await?;
        self.take("mount");
        Ok(MountedRoot {
            path: format!("/mnt/{id}").into(),
            hold: None,
        })
    }

    async fn unmount(&self, _: &ContainerId) -> PortResult<()> {
        self.step("unmount").await?;
        self.give("mount");
        Ok(())
    }

    async fn mount_image(
        &self,
        dirs: &RecordDirs,
        number: usize,
        _: &ImageMount,
    ) -> PortResult<PathBuf> {
        self.step("mount_image").await?;
        self.take("image mount");
        Ok(dirs.run.join(number.to_string()))
    }

    async fn unmount_images(&self, _: &RecordDirs) -> PortResult<()> {
        self.step("unmount_images").await?;
        self.give("image mount");
        Ok(())
    }

    async fn make_volume(
        &self,
        dirs: &RecordDirs,
        number: usize,
        _: Ownership,
    ) -> PortResult<PathBuf> {
        Ok(dirs.run.join(number.to_string()))
    }

    async fn remove(&self, id: &ContainerId) -> PortResult<()> {
        self.step("records.remove").await?;
        if let Some(name) = self.record_name(id) {
            self.records.lock().unwrap().remove(id.as_str());
            self.give("imported");
            self.give(name);
        }
        Ok(())
    }

    async fn save_config(&self, dirs: &RecordDirs, json: Vec<u8>) -> PortResult<()> {
        self.step("save_config").await?;
        self.change(dirs, |record| record.config = Some(json));
        Ok(())
    }

    async fn save_state(&self, dirs: &RecordDirs, json: String) -> PortResult<()> {
        self.step("save_state").await?;
        self.change(dirs, |record| record.state = Some(json.into_bytes()));
        Ok(())
    }

    async fn mark(&self, dirs: &RecordDirs, marker: Marker) -> PortResult<()> {
        self.change(dirs, |record| match marker {
            Marker::Stopped => record.stopped = true,
            Marker::NetworkStopped => record.network_stopped = true,
        });
        Ok(())
    }

    async fn read_in_root(&self, _: &Path, _: &str, _: u64) -> PortResult<Option<Vec<u8>>> {
        Ok(None)
    }

    async fn write_run_file(
        &self,
        dirs: &RecordDirs,
        name: &'static str,
        _: Vec<u8>,
        _: Ownership,
    ) -> PortResult<PathBuf> {
        Ok(dirs.run.join(name))
    }

    async fn load(&self) -> PortResult<Vec<StoredRecord>> {
        let held = self.held();
        let checkpointing = held.contains(&"checkpoint".to_owned());
        let restoring = held.contains(&"imported".to_owned());
        let mut records: Vec<_> = self.records.lock().unwrap().values().cloned().collect();
        for record in records.iter_mut().filter(|record| !record.metadata.pod) {
            record.checkpointing = checkpointing;
            record.restoring = restoring;
        }
        Ok(records)
    }
}
