//! Replacing a small file again and again, with two files in turn.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, fchmod, renameat_with};

use crate::atomic::AtomicWriteError;

/// Replaces `path` as `atomic_write` does without flushing, but keeps the old file beside it, as `.other-<name>`, and writes
/// the next content into that one: no file is made or deleted, which costs more than all the rest.
///
/// A reader of the old file may see the content after next come into it. So this is only for files that are read under a
/// lock which their writers hold, too.
pub fn write_in_turn(
    path: impl AsRef<Path>,
    bytes: &[u8],
    mode: u32,
) -> Result<(), AtomicWriteError> {
    let path = path.as_ref();
    let fail = |step| move |source| AtomicWriteError::new(path, step, source);
    let other = other_of(path).map_err(fail("find its name"))?;
    fill(&other, bytes, mode).map_err(fail("write the new content beside it"))?;
    place(&other, path).map_err(fail("put the new file into its place"))
}

fn other_of(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut other = OsString::from(".other-");
    other.push(name);
    Ok(path.with_file_name(other))
}

fn fill(other: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Not emptied first: ext4 writes a file out that was emptied and filled again.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(other)?;
    file.write_all_at(bytes, 0)?;
    if file.metadata()?.len() > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(fchmod(&file, Mode::from_raw_mode(mode))?)
}

fn place(other: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, other, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // The first one, or a file system that cannot exchange.
        Err(_) => fs::rename(other, path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn two_files_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layers.json");
        let mut inodes = Vec::new();
        for content in ["[1]", "[1,22222222]", "[]", "", "[1,2,3,4,5,6]"] {
            write_in_turn(&path, content.as_bytes(), 0o600).unwrap();
            let meta = fs::metadata(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
            inodes.push(meta.ino());
        }
        assert_ne!(inodes[0], inodes[1]);
        assert_eq!(inodes[..2], inodes[2..4]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("occupied");
        fs::create_dir_all(path.join("by a directory")).unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, b"kept").unwrap();
        std::os::unix::fs::symlink(&outside, other_of(&path).unwrap()).unwrap();
        write_in_turn(&path, b"x", 0o600).unwrap_err();
        assert_eq!(fs::read(&outside).unwrap(), b"kept");
        assert!(path.join("by a directory").exists());
    }
}
