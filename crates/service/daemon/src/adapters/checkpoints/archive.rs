//! What was collected, as one archive.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crioxide_engine::ports::PortResult;
use tar::Builder;

use super::{IMAGES, failed};

/// The copy of the container's log: named by the annotation that says where the log is.
pub(super) const LOG: &str = "io.kubernetes.cri-o.LogPath";

/// What goes into an archive, in this order, as far as it is there.
const MEMBERS: &[&str] = &[
    "stats-dump",
    "dump.log",
    IMAGES,
    "config.dump",
    "spec.dump",
    "bind.mounts",
    "rootfs-diff.tar",
    "deleted.files",
    LOG,
];

/// The archive while it is written; it goes away unless it is renamed.
struct Unfinished {
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It was renamed, or it is of no use.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the archive of what is in `work`. It holds the memory of processes, so only root may read it.
pub(super) fn write(work: &Path, location: &Path) -> PortResult<()> {
    let name = location.file_name().unwrap_or_default().to_string_lossy();
    let name = format!(".{name}.{}", crioxide_files::random_suffix());
    let path = location.with_file_name(name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(failed("cannot create checkpoint archive", location))?;
    let unfinished = Unfinished { path };
    let write_failed = || failed("cannot write checkpoint archive", location);
    let mut builder = Builder::new(file);
    for member in MEMBERS {
        append(&mut builder, work, member).map_err(write_failed())?;
    }
    let file = builder.into_inner().map_err(write_failed())?;
    file.sync_data().map_err(write_failed())?;
    fs::rename(&unfinished.path, location).map_err(write_failed())?;
    Ok(())
}

fn append(builder: &mut Builder<File>, work: &Path, member: &str) -> std::io::Result<()> {
    let path = work.join(member);
    let Ok(metadata) = fs::symlink_metadata(&path) else {
        return Ok(());
    };
    if metadata.is_file() {
        return builder.append_file(member, &mut File::open(&path)?);
    }
    builder.append_dir(format!("{member}/"), &path)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&path)? {
        names.push(entry?.file_name());
    }
    names.sort();
    for name in names {
        let below = path.join(&name);
        // criu makes links between its own directories, which lead nowhere elsewhere.
        if fs::symlink_metadata(&below)?.is_file() {
            builder.append_file(Path::new(member).join(&name), &mut File::open(&below)?)?;
        }
    }
    Ok(())
}
