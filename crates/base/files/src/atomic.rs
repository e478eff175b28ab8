//! Replacing a file so that readers see the old or the new content, never a part.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Begin of the names of temporary files, as containers/storage has it too.
const PREFIX: &str = ".tmp-";

/// How durable a replaced file must be when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Atomic for other processes, but a power cut may lose or empty the file.
    None,
    /// The content is on the device before the name points at it; which one the name points at is not sure after a power
    /// cut.
    Data,
}

/// How [`atomic_write`] makes the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtomicOptions {
    /// Permission bits, applied whatever the umask is.
    pub mode: u32,
    /// Durability.
    pub sync: Sync,
}

impl Default for AtomicOptions {
    fn default() -> Self {
        Self {
            mode: 0o600,
            sync: Sync::Data,
        }
    }
}

/// Why a file was not replaced. The old file, if any, is untouched.
#[derive(Debug, thiserror::Error)]
#[error("replace {path}: {step}")]
pub struct AtomicWriteError {
    /// The file that should have been replaced.
    pub path: PathBuf,
    step: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl AtomicWriteError {
    pub(crate) fn new(path: &Path, step: &'static str, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            step,
            source,
        }
    }
}

/// Writes `bytes` to a temporary file beside `path` and renames it over `path`.
///
/// The temporary name starts with a dot and never stays behind, short of a crash.
pub fn atomic_write(
    path: impl AsRef<Path>,
    bytes: &[u8],
    options: AtomicOptions,
) -> Result<(), AtomicWriteError> {
    let path = path.as_ref();
    let fail = |step| move |source| AtomicWriteError::new(path, step, source);
    let name = path
        .file_name()
        .ok_or_else(|| fail("find its name")(io::ErrorKind::InvalidInput.into()))?;
    let mut temporary_name = OsString::from(PREFIX);
    temporary_name.push(name);
    temporary_name.push("-");
    temporary_name.push(random_suffix());
    let temporary = Temporary(Some(path.with_file_name(temporary_name)));
    let temporary_path = temporary.path();

    let mut file =
        create(temporary_path, options.mode).map_err(fail("create a temporary file beside it"))?;
    file.write_all(bytes)
        .map_err(fail("write the new content"))?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(options.mode))
        .map_err(|error| fail("set its mode")(error.into()))?;
    if options.sync == Sync::Data {
        file.sync_data().map_err(fail("flush the new content"))?;
    }
    drop(file);
    let placed = match options.sync {
        Sync::Data => fs::rename(temporary_path, path),
        Sync::None => place_without_flush(temporary_path, path),
    };
    placed.map_err(fail("rename the new file into place"))?;
    temporary.keep();
    Ok(())
}

/// Writes `bytes` to a new file, not durably, that nobody looks for before this returns: it has its name from the start.
///
/// One that is there already is replaced, as by [`atomic_write`]. Nothing stays behind of a file that could not be written.
pub fn write_new(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), AtomicWriteError> {
    let path = path.as_ref();
    let fail = |step| move |source| AtomicWriteError::new(path, step, source);
    let mut file = match create(path, mode) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let sync = Sync::None;
            return atomic_write(path, bytes, AtomicOptions { mode, sync });
        }
        Err(error) => return Err(fail("create it")(error)),
    };
    let unfinished = Temporary(Some(path.to_owned()));
    file.write_all(bytes).map_err(fail("write its content"))?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode))
        .map_err(|error| fail("set its mode")(error.into()))?;
    unfinished.keep();
    Ok(())
}

/// ext4 begins to write a file to the device when it is renamed over another; exchanged with it, it does not.
fn place_without_flush(temporary: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let place = |how| renameat_with(CWD, temporary, CWD, path, how);
    let exchange = || place(RenameFlags::EXCHANGE);
    if place(RenameFlags::NOREPLACE).is_ok() {
        return Ok(());
    }
    if exchange().is_err() {
        // A file system that cannot, or the old one has gone meanwhile.
        return fs::rename(temporary, path);
    }
    match fs::remove_file(temporary) {
        // A directory, say: a rename would have refused it too.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            exchange()?;
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Removes what writers killed inside [`atomic_write`] left in `directory`, or only what they left for its file `name`.
///
/// Only for a directory (or file) that nobody can be writing to now: a lock is held, or there is one writer at a time.
/// A directory that is not there holds nothing.
///
/// # Errors
/// The first entry that could not be removed, after all were tried.
pub fn remove_temporaries(directory: &Path, name: Option<&OsStr>) -> io::Result<()> {
    let mut prefix = OsString::from(PREFIX);
    if let Some(name) = name {
        prefix.push(name);
        prefix.push("-");
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut outcome = Ok(());
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                outcome = outcome.and(Err(error))
            }
            _ => {}
        }
    }
    outcome
}

/// Sixteen random lower-case hexadecimal digits, for names that must not collide.
pub fn random_suffix() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .expect("the kernel's random source is there on every supported kernel");
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

/// Removes the temporary file unless it was renamed away.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn path(&self) -> &Path {
        self.0
            .as_deref()
            .expect("the path is only taken when the value is consumed")
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The write already failed and is being reported; a leftover is named after the file it belongs to.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn replaces_content_and_mode_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        atomic_write(&path, b"old", AtomicOptions::default()).unwrap();
        atomic_write(
            &path,
            b"new",
            AtomicOptions {
                mode: 0o666,
                sync: Sync::None,
            },
        )
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o666
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_has_its_mode_and_an_old_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        write_new(&path, b"first", 0o666).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), mode()),
            (b"first".to_vec(), 0o666)
        );
        let before = fs::metadata(&path).unwrap().ino();
        write_new(&path, b"second", 0o640).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), mode()),
            (b"second".to_vec(), 0o640)
        );
        assert_ne!(fs::metadata(&path).unwrap().ino(), before, "written over");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let missing = dir.path().join("missing/hosts");
        let error = write_new(&missing, b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("missing/hosts"), "{error}");
    }

    #[test]
    fn what_a_killed_writer_left_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "list.json",
            ".tmp-list.json-0123",
            ".tmp-other-4567",
            "list.json-tmp",
        ] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        remove_temporaries(dir.path(), Some(OsStr::new("list.json"))).unwrap();
        assert!(!dir.path().join(".tmp-list.json-0123").exists());
        assert!(dir.path().join(".tmp-other-4567").exists());
        remove_temporaries(dir.path(), None).unwrap();
        assert!(!dir.path().join(".tmp-other-4567").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        remove_temporaries(&dir.path().join("missing"), None).unwrap();
    }

    #[test]
    fn a_failed_rename_removes_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("occupied");
        fs::create_dir_all(path.join("by a directory")).unwrap();
        let error = atomic_write(&path, b"x", AtomicOptions::default()).unwrap_err();
        assert!(error.to_string().contains("occupied"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
