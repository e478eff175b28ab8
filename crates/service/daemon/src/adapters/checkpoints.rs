//! Checkpoints of containers: collected beside the container's records, then made one archive, in CRI-O's form.

mod archive;
mod changes;
mod import;
mod source;

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use crioxide_cgroups::Driver;
use crioxide_engine::ports::{
    CheckpointContent, CheckpointOrigin, CheckpointSource, CheckpointTarget, Checkpoints,
    PortError, PortResult, RecordDirs, RestoreFiles,
};
use crioxide_names::ContainerId;
use crioxide_store::{LayerId, Store};
use rustix::fs::OFlags;

use crate::blocking;

/// Where a checkpoint is collected. It is there as long as one is being taken.
const WORK: &str = "checkpointing";

/// Where a checkpoint is brought to that a container is restored from. It is there until the container runs.
const RESTORE: &str = "restoring";

/// Where criu's images go, in the work directory and in the archive.
const IMAGES: &str = "checkpoint";

/// So much of criu's log is looked at for what went wrong (bytes).
const LOG_END: u64 = 4 << 20;

/// The files of checkpoints, in the store.
pub(crate) struct StoreCheckpoints {
    pub(crate) store: Arc<Store>,
    /// Who manages cgroups.
    pub(crate) driver: Driver,
}

/// Whether a checkpoint was being taken when the daemon ended.
pub(super) fn is_under_way(dirs: &RecordDirs) -> bool {
    dirs.persistent.join(WORK).exists()
}

/// Whether a container was to be restored when the daemon ended.
pub(super) fn is_to_be_restored(dirs: &RecordDirs) -> bool {
    dirs.persistent.join(RESTORE).exists()
}

/// What criu's log `name` in `work` names as errors.
pub(super) fn reason(work: &Path, name: &str) -> Option<String> {
    let mut file = File::open(work.join(name)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_END).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let errors: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once("Error (")?.1))
        .filter_map(|line| Some(line.split_once("): ")?.1.trim()))
        .collect();
    // A restore goes on about what it undoes: what came first is the cause.
    let told = match errors.as_slice() {
        [first, second, .., last] => vec![*first, *second, *last],
        few => few.to_vec(),
    };
    (!told.is_empty()).then(|| told.join("; "))
}

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> PortError {
    let text = format!("{what} {}", path.display());
    move |error| format!("{text}: {error}").into()
}

fn remove(path: &Path) -> PortResult<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(failed("cannot remove checkpoint directory", path)(error))
        }
        _ => Ok(()),
    }
}

fn begin(dirs: &RecordDirs) -> PortResult<PathBuf> {
    let work = dirs.persistent.join(WORK);
    remove(&work)?;
    for path in [&work, &work.join(IMAGES)] {
        let made = DirBuilder::new().mode(0o700).create(path);
        made.map_err(failed("cannot make directory", path))?;
    }
    Ok(work)
}

/// The directory that holds what a container changed.
fn changes_of(store: &Store, id: &ContainerId) -> PortResult<PathBuf> {
    let driver = store.driver_name();
    if driver != "overlay" {
        return Err(format!(
            "the storage driver {driver} does not tell what a container has changed"
        )
        .into());
    }
    let record = store.container(id.as_str())?;
    let record = record.ok_or_else(|| format!("the store has no container {id}"))?;
    // Of overlay it is always there.
    let content = store.layer_content(&LayerId::parse(&record.layer)?)?;
    Ok(content.to_path_buf())
}

/// `bind.mounts`, by which a restore elsewhere makes sources of the right type.
fn describe_binds(binds: &[(PathBuf, PathBuf)]) -> PortResult<Vec<u8>> {
    let mut described = Vec::with_capacity(binds.len());
    for (source, destination) in binds {
        let metadata = fs::metadata(source).map_err(failed("cannot look at", source))?;
        described.push(serde_json::json!({
            "source": source,
            "destination": destination,
            "file_type": if metadata.is_dir() { "directory" } else { "file" },
            "permissions": metadata.permissions().mode() & 0o777,
        }));
    }
    Ok(serde_json::to_vec_pretty(&described)?)
}

fn collect(changes: &Path, work: &Path, content: &CheckpointContent) -> PortResult<()> {
    let write = |name: &str, bytes: &[u8]| {
        let path = work.join(name);
        fs::write(&path, bytes).map_err(failed("cannot write", &path))
    };
    write("config.dump", &content.config)?;
    write("spec.dump", &content.spec)?;
    if !content.bind_mounts.is_empty() {
        write("bind.mounts", &describe_binds(&content.bind_mounts)?)?;
    }
    let deleted = changes::write(
        changes,
        &content.root,
        &content.mounted,
        &work.join("rootfs-diff.tar"),
    )?;
    if !deleted.is_empty() {
        write("deleted.files", &serde_json::to_vec_pretty(&deleted)?)?;
    }
    copy_log(&content.log_path, &work.join(archive::LOG))
}

/// A log that is not there, or is no file, is left out.
fn copy_log(log: &Path, target: &Path) -> PortResult<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(log);
    let Ok(opened) = opened else { return Ok(()) };
    let metadata = opened.metadata().map_err(failed("cannot look at", log))?;
    if !metadata.is_file() {
        return Ok(());
    }
    let mut copy = File::create(target).map_err(failed("cannot create", target))?;
    std::io::copy(&mut opened.take(metadata.len()), &mut copy)
        .map_err(failed("cannot copy the log to", target))?;
    Ok(())
}

#[async_trait]
impl Checkpoints for StoreCheckpoints {
    async fn begin(&self, dirs: &RecordDirs) -> PortResult<PathBuf> {
        let dirs = dirs.clone();
        blocking::run(move || begin(&dirs)).await
    }

    async fn collect(
        &self,
        id: &ContainerId,
        work: &Path,
        content: CheckpointContent,
    ) -> PortResult<()> {
        let (store, id, work) = (self.store.clone(), id.clone(), work.to_owned());
        blocking::run(move || collect(&changes_of(&store, &id)?, &work, &content)).await
    }

    async fn export(&self, work: &Path, location: &Path) -> PortResult<()> {
        let (work, location) = (work.to_owned(), location.to_owned());
        blocking::run(move || archive::write(&work, &location)).await
    }

    async fn end(&self, dirs: &RecordDirs) -> PortResult<()> {
        let work = dirs.persistent.join(WORK);
        blocking::run(move || remove(&work)).await
    }

    async fn describe(&self, source: &CheckpointSource) -> PortResult<CheckpointOrigin> {
        let (store, source) = (self.store.clone(), source.clone());
        blocking::run(move || import::describe(&store, &source)).await
    }

    async fn import(&self, source: &CheckpointSource, target: CheckpointTarget) -> PortResult<()> {
        let (store, source, driver) = (self.store.clone(), source.clone(), self.driver);
        blocking::run(move || {
            let work = target.dirs.persistent.join(RESTORE);
            let imported = import::import(&store, &source, &target, &work, driver);
            if imported.is_err() {
                // The error that led here is the one to report.
                let _ = remove(&work);
            }
            imported
        })
        .await
    }

    fn imported(&self, dirs: &RecordDirs) -> RestoreFiles {
        let work = dirs.persistent.join(RESTORE);
        RestoreFiles {
            images: work.join(IMAGES),
            work,
        }
    }

    async fn forget(&self, dirs: &RecordDirs) -> PortResult<()> {
        let work = dirs.persistent.join(RESTORE);
        blocking::run(move || remove(&work)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_criu_names_the_reason() {
        let work = tempfile::tempdir().unwrap();
        assert_eq!(reason(work.path(), "dump.log"), None);
        let log = "(00.1) fine\n(00.2) Error (criu/a.c:1): first\n(00.3) Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using --tcp-established option.\n(00.4) Error (criu/cr-dump.c:2): Dumping FAILED.\n(00.5) Error (x.c:3): last\n";
        fs::write(work.path().join("dump.log"), log).unwrap();
        assert_eq!(
            reason(work.path(), "dump.log").unwrap(),
            "first; inet: Connected TCP socket, consider using --tcp-established option.; last"
        );
    }

    #[test]
    fn a_checkpoint_becomes_one_archive_or_nothing() {
        let place = tempfile::tempdir().unwrap();
        let dirs = RecordDirs {
            persistent: place.path().join("c"),
            run: place.path().join("r"),
        };
        let (upper, root) = (place.path().join("upper"), place.path().join("root"));
        for path in [&dirs.persistent, &upper, &root] {
            fs::create_dir(path).unwrap();
        }
        for tree in [&upper, &root] {
            fs::write(tree.join("new"), "new content").unwrap();
        }
        let log = place.path().join("0.log");
        fs::write(&log, "a line\n").unwrap();
        let work = begin(&dirs).unwrap();
        assert!(is_under_way(&dirs));
        fs::write(work.join(IMAGES).join("inventory.img"), "x").unwrap();
        let content = CheckpointContent {
            config: b"{}".to_vec(),
            spec: b"{}".to_vec(),
            bind_mounts: vec![
                (log.clone(), "/etc/log".into()),
                (root.clone(), "/d".into()),
            ],
            mounted: Vec::new(),
            root,
            log_path: log,
        };
        collect(&upper, &work, &content).unwrap();
        let location = place.path().join("checkpoint.tar");
        archive::write(&work, &location).unwrap();
        assert_eq!(
            fs::metadata(&location).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut names = Vec::new();
        let mut archive = tar::Archive::new(File::open(&location).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "bind.mounts" {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                let binds: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(binds[0]["file_type"], "file");
                assert_eq!(binds[1]["file_type"], "directory");
            }
            names.push(name);
        }
        assert_eq!(
            names,
            [
                "checkpoint/",
                "checkpoint/inventory.img",
                "config.dump",
                "spec.dump",
                "bind.mounts",
                "rootfs-diff.tar",
                "io.kubernetes.cri-o.LogPath"
            ]
        );
        let nowhere = place.path().join("no/such/place.tar");
        assert!(
            archive::write(&work, &nowhere)
                .unwrap_err()
                .to_string()
                .contains("no/such")
        );
        remove(&work).unwrap();
        assert!(!is_under_way(&dirs));
        let left = fs::read_dir(place.path()).unwrap().count();
        assert_eq!(left, 5, "something else was left");
    }
}
