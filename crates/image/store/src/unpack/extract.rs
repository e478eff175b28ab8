//! Making the entries of a layer.
//!
//! No path of the archive is ever handed to the kernel as a whole: a parent directory is looked up inside the layer, and
//! the last component is made relative to its descriptor, without following it.

use super::directories::{Directories, Directory};
use super::metadata::{self, Defaults};
use super::room::Room;
use super::{UnpackError, path};
use crate::driver::RootMode;
use crate::staging::remove_tree;
use crate::tar::{Entry, Extent, Kind, TarError};
use crioxide_files::InRoot;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

/// Writes entries below one root.
pub(super) struct Extractor {
    directories: Directories,
    defaults: Defaults,
    /// Times of directories, to be set when nothing is put into them any more.
    times: Vec<(Vec<u8>, Timestamps)>,
    /// Bytes of the names in `times`.
    remembered: usize,
    root: RootMode,
    replaced: Replaced,
    room: Room,
}

/// Most bytes of directories' names that are kept in memory; a million directories have far less.
const MAX_REMEMBERED: usize = 128 << 20;

/// Where things go that a later entry replaces.
enum Replaced {
    /// Out of the layer by one rename.
    ///
    /// Opened relative to the layer and not by its path, which may lead over another mount of the same file system by
    /// now.
    Beside {
        directory: Option<OwnedFd>,
        count: u64,
    },
    /// They are removed where they are.
    Nowhere,
}

/// Beside the layer's root.
const REPLACED: &str = "../replaced";

impl Extractor {
    pub(super) fn new(root: InRoot) -> Self {
        Self {
            directories: Directories::new(root),
            defaults: Defaults::of_process(),
            times: Vec::new(),
            remembered: 0,
            root: RootMode::OfParent,
            replaced: Replaced::Beside {
                directory: None,
                count: 0,
            },
            room: Room::default(),
        }
    }

    /// For a tree that has files already, beside which there is no place.
    pub(super) fn over(root: InRoot) -> Self {
        let mut extractor = Self {
            replaced: Replaced::Nowhere,
            ..Self::new(root)
        };
        // It may hold some already.
        extractor.directories.beware_of_links();
        extractor
    }

    /// Removes what is at `path`; nothing being there is no error.
    pub(super) fn remove(&mut self, path: &[&[u8]]) -> Result<(), UnpackError> {
        let Some((name, parent)) = path.split_last() else {
            return Ok(());
        };
        let parent = match self.directories.find(parent) {
            Err(UnpackError::Lookup(error)) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        self.directories.forget();
        remove_in(&parent, OsStr::from_bytes(name)).map_err(|source| UnpackError::Entry {
            name: UnpackError::printable(&path.join(&b'/')),
            action: "remove what was deleted",
            source,
        })
    }

    /// Makes the entry with the cleaned `path`.
    pub(super) fn extract(
        &mut self,
        entry: &Entry,
        path: &[&[u8]],
        content: &mut dyn ContentSource,
    ) -> Result<(), UnpackError> {
        let fail = |(action, source)| UnpackError::Entry {
            name: UnpackError::printable(&entry.name),
            action,
            source,
        };
        let Some((name, parent)) = path.split_last() else {
            return self.root_entry(entry).map_err(fail);
        };
        if parent.len() >= path::MAX_DEPTH {
            return Err(UnpackError::deep(&entry.name));
        }
        let parent = self.directories.make(parent)?;
        self.room
            .file(&parent.fd, || UnpackError::printable(&entry.name))?;
        let name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::File => self.file(entry, &parent, name, content),
            Kind::Directory => {
                self.directory(entry, &parent, name).map_err(fail)?;
                self.remember(entry, path)
            }
            Kind::HardLink => self.hard_link(entry, &parent, name),
            Kind::Symlink => self.symlink(entry, &parent, name).map_err(fail),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                self.node(entry, &parent, name).map_err(fail)
            }
        }
    }

    /// Hides what the layers below have at `path`.
    pub(super) fn white_out(&mut self, entry: &Entry, path: &[&[u8]]) -> Result<(), UnpackError> {
        let fail = |(action, source)| UnpackError::Entry {
            name: UnpackError::printable(&entry.name),
            action,
            source,
        };
        let Some((name, parent)) = path.split_last() else {
            return Ok(());
        };
        let parent = self.directories.make(parent)?;
        let name = OsStr::from_bytes(name);
        match rustix::fs::mknodat(
            &parent.fd,
            name,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        ) {
            Ok(()) => Ok(()),
            // The layer brings the name itself: a file hides what is below anyway, a directory must be told to.
            Err(Errno::EXIST) => match open_directory(&parent, name) {
                Ok(directory) => set_opaque(&directory).map_err(fail),
                Err(_) => Ok(()),
            },
            Err(error) => Err(fail(("make the whiteout", error.into()))),
        }
    }

    /// Hides all that the layers below have in the directory.
    pub(super) fn make_opaque(&mut self, entry: &Entry, path: &[&[u8]]) -> Result<(), UnpackError> {
        let fail = |(action, source)| UnpackError::Entry {
            name: UnpackError::printable(&entry.name),
            action,
            source,
        };
        let directory = self.directories.make(path)?;
        // The kept descriptor is only a handle; attributes need an open file.
        open_directory(&directory, OsStr::new("."))
            .map_err(|error| ("open the directory", error.into()))
            .and_then(|directory| set_opaque(&directory))
            .map_err(fail)
    }

    /// Sets the times of all directories and removes what was replaced.
    pub(super) fn finish(mut self) -> Result<RootMode, UnpackError> {
        self.remove_replaced()?;
        for (name, times) in std::mem::take(&mut self.times) {
            let components = path::clean(&name).unwrap_or_default();
            let set = match components.split_last() {
                None => {
                    rustix::fs::utimensat(&self.directories.root, ".", &times, AtFlags::empty())
                }
                Some((name, parent)) => match self.directories.find(parent) {
                    Ok(parent) if is_directory(&parent, OsStr::from_bytes(name)) => {
                        let name = OsStr::from_bytes(name);
                        rustix::fs::utimensat(&parent.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                    }
                    // A later entry put something else in its place.
                    Ok(_) | Err(_) => Ok(()),
                },
            };
            match set {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    let name = UnpackError::printable(&name);
                    return Err(UnpackError::Entry {
                        name,
                        action: "set the times",
                        source: error.into(),
                    });
                }
            }
        }
        Ok(self.root)
    }

    fn remove_replaced(&mut self) -> Result<(), UnpackError> {
        let Replaced::Beside { directory, .. } = &mut self.replaced else {
            return Ok(());
        };
        let Some(directory) = directory.take() else {
            return Ok(());
        };
        // The link in procfs leads to exactly that directory.
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let fail = |source| UnpackError::Entry {
            name: REPLACED.to_owned(),
            action: "remove what was replaced",
            source,
        };
        for entry in std::fs::read_dir(path).map_err(fail)? {
            remove_tree(&entry.map_err(fail)?.path())
                .map_err(|error| fail(io::Error::other(error)))?;
        }
        rustix::fs::unlinkat(&self.directories.root, REPLACED, AtFlags::REMOVEDIR)
            .map_err(|error| fail(error.into()))
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), (&'static str, io::Error)> {
        if entry.kind != Kind::Directory {
            return Err((
                "replace the root of the layer",
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.directories.root, ".", flags, Mode::empty())
            .map_err(|error| ("open the root of the layer", error.into()))?;
        metadata::apply(&root, entry, self.defaults, true)?;
        self.root = RootMode::Own;
        self.times.push((Vec::new(), metadata::times(entry)));
        self.directories.forget();
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &OsStr,
        content: &mut dyn ContentSource,
    ) -> Result<(), UnpackError> {
        let fail = |action| {
            move |source: io::Error| UnpackError::Entry {
                name: UnpackError::printable(&entry.name),
                action,
                source,
            }
        };
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let file = self
            .make(parent, name, || {
                rustix::fs::openat(&parent.fd, name, flags, mode)
            })
            .map_err(|error| fail("create the file")(error.into()))?;
        let mut file = File::from(file);
        match &entry.sparse {
            None => loop {
                let piece = content.next(u64::MAX)?;
                if piece.is_empty() {
                    break;
                }
                file.write_all(piece).map_err(fail("write the content"))?;
                let name = || UnpackError::printable(&entry.name);
                self.room.take(piece.len() as u64, &parent.fd, name)?;
            },
            Some(sparse) => {
                for extent in &sparse.extents {
                    write_extent(&file, *extent, content, fail("write the content"))?;
                }
                file.set_len(sparse.size).map_err(fail("set the size"))?;
            }
        }
        metadata::apply(&file, entry, self.defaults, parent.sets_group)
            .map_err(|(action, source)| fail(action)(source))?;
        rustix::fs::futimens(&file, &metadata::times(entry))
            .map_err(|error| fail("set the times")(error.into()))
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &OsStr,
    ) -> Result<(), (&'static str, io::Error)> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut existing = false;
        let mut hides_below = false;
        match rustix::fs::mkdirat(&parent.fd, name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) if open_directory(parent, name).is_ok() => existing = true,
            Err(Errno::EXIST) => {
                // Over a whiteout of the same layer the directory starts empty, whatever is below.
                hides_below = is_whiteout(parent, name);
                self.replace(parent, name)
                    .map_err(|error| ("replace what was there", error))?;
                rustix::fs::mkdirat(&parent.fd, name, mode)
                    .map_err(|error| ("make the directory", error.into()))?;
            }
            Err(error) => return Err(("make the directory", error.into())),
        }
        let plain = !existing
            && !hides_below
            && entry.xattrs.is_empty()
            && !self.defaults.owner_differs(entry, parent.sets_group)
            && !self.defaults.mode_differs(entry.mode);
        if !plain {
            let directory = open_directory(parent, name)
                .map_err(|error| ("open the directory", error.into()))?;
            // An existing directory may have any owner and mode by now.
            metadata::apply(
                &directory,
                entry,
                self.defaults,
                existing || parent.sets_group,
            )?;
            if hides_below {
                set_opaque(&directory)?;
            }
            if existing {
                self.directories.forget();
            }
        }
        Ok(())
    }

    /// Keeps the time of a directory for the end.
    fn remember(&mut self, entry: &Entry, path: &[&[u8]]) -> Result<(), UnpackError> {
        let name = path.join(&b'/');
        self.remembered += name.len();
        if self.remembered > MAX_REMEMBERED {
            return Err(UnpackError::Limit {
                name: UnpackError::printable(&name),
                what: "bytes of directories' names",
                limit: MAX_REMEMBERED,
            });
        }
        self.times.push((name, metadata::times(entry)));
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let target = path::clean(&entry.link).ok_or_else(|| UnpackError::escapes(&entry.link))?;
        let fail = |source| UnpackError::Entry {
            name: UnpackError::printable(&entry.name),
            action: "make the hard link",
            source,
        };
        let Some((target_name, target_parent)) = target.split_last() else {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        };
        let target_parent = self.directories.find(target_parent)?;
        let target_name = OsStr::from_bytes(target_name);
        self.make(parent, name, || {
            rustix::fs::linkat(
                &target_parent.fd,
                target_name,
                &parent.fd,
                name,
                AtFlags::empty(),
            )
        })
        .map_err(|error| fail(error.into()))
    }

    fn symlink(
        &mut self,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &OsStr,
    ) -> Result<(), (&'static str, io::Error)> {
        let target = OsStr::from_bytes(&entry.link);
        self.directories.beware_of_links();
        self.make(parent, name, || {
            rustix::fs::symlinkat(target, &parent.fd, name)
        })
        .map_err(|error| ("make the symlink", error.into()))?;
        self.by_name(entry, parent, name, false)
    }

    fn node(
        &mut self,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &OsStr,
    ) -> Result<(), (&'static str, io::Error)> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match self.make(parent, name, || {
            rustix::fs::mknodat(&parent.fd, name, kind, mode, device)
        }) {
            Ok(()) => self.by_name(entry, parent, name, true),
            Err(Errno::PERM) => {
                tracing::warn!(
                    name = UnpackError::printable(&entry.name),
                    "not permitted to make a device of the image"
                );
                Ok(())
            }
            Err(error) => Err(("make the device", error.into())),
        }
    }

    fn by_name(
        &self,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &OsStr,
        has_mode: bool,
    ) -> Result<(), (&'static str, io::Error)> {
        metadata::apply_by_name(
            &parent.fd,
            name,
            entry,
            (self.defaults, parent.sets_group),
            has_mode,
        )?;
        rustix::fs::utimensat(
            &parent.fd,
            name,
            &metadata::times(entry),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|error| ("set the times", error.into()))
    }

    /// Makes something under a name, after moving away what an earlier entry put there.
    fn make<T>(
        &mut self,
        parent: &Rc<Directory>,
        name: &OsStr,
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match attempt() {
            Err(Errno::EXIST) => {
                self.replace(parent, name)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                attempt()
            }
            other => other,
        }
    }

    fn replace(&mut self, parent: &Rc<Directory>, name: &OsStr) -> io::Result<()> {
        // Descriptors below the name, or reached through it, are of no use any more.
        self.directories.forget();
        self.replaced.take(&self.directories.root, parent, name)
    }
}

impl Replaced {
    fn take(&mut self, root: &InRoot, parent: &Rc<Directory>, name: &OsStr) -> io::Result<()> {
        let Self::Beside { directory, count } = self else {
            return remove_in(parent, name);
        };
        let directory = match directory {
            Some(directory) => directory,
            None => {
                rustix::fs::mkdirat(root, REPLACED, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(root, REPLACED, flags, Mode::empty())?;
                directory.insert(opened)
            }
        };
        *count += 1;
        let aside = count.to_string();
        match rustix::fs::renameat(&parent.fd, name, directory, aside) {
            // The content is a subvolume of its own.
            Err(Errno::XDEV) => remove_in(parent, name),
            other => Ok(other?),
        }
    }
}

/// Removes a file or a tree of a directory, following nothing.
fn remove_in(parent: &Directory, name: &OsStr) -> io::Result<()> {
    // The link in procfs leads to exactly that directory.
    let path = PathBuf::from(format!("/proc/self/fd/{}", parent.fd.as_raw_fd())).join(name);
    remove_tree(&path).map_err(io::Error::other)
}

/// Content of an entry, piece by piece.
pub(super) trait ContentSource {
    /// The next piece, `limit` bytes at most for sparse files; empty at the end.
    fn next(&mut self, limit: u64) -> Result<&[u8], TarError>;
}

fn write_extent(
    file: &File,
    extent: Extent,
    content: &mut dyn ContentSource,
    fail: impl FnOnce(io::Error) -> UnpackError,
) -> Result<(), UnpackError> {
    let mut done = 0;
    while done < extent.length {
        let piece = content.next(extent.length - done)?;
        if let Err(error) = file.write_all_at(piece, extent.offset + done) {
            return Err(fail(error));
        }
        done += piece.len() as u64;
    }
    Ok(())
}

fn open_directory(parent: &Directory, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent.fd, name, flags, Mode::empty())
}

fn is_directory(parent: &Directory, name: &OsStr) -> bool {
    rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

fn is_whiteout(parent: &Directory, name: &OsStr) -> bool {
    rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
    })
}

fn set_opaque(directory: &OwnedFd) -> Result<(), (&'static str, io::Error)> {
    rustix::fs::fsetxattr(
        directory,
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .map_err(|error| ("make the directory opaque", error.into()))
}
