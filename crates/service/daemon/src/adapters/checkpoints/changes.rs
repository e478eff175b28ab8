//! What a container changed in its root, as an archive and a list of what it deleted.
//!
//! Which files were changed is seen in the layer's own directory; what they are is read through the mounted root, as a
//! changed file may have its content in a layer below. All paths are looked up inside the two trees by descriptor.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crioxide_engine::ports::{PortError, PortResult};
use crioxide_files::{InRoot, InRootError};
use rustix::fs::{Dir, FileType, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::failed;

/// Attributes of files that belong to the file system or to the host and not to the container.
const LEFT_OUT: &[&[u8]] = &[
    b"trusted.",
    b"security.selinux",
    b"security.ima",
    b"system.",
];

/// The longest list of attributes, and the longest value, that is taken (bytes); the kernel has no longer ones.
const MAX_ATTRIBUTE: usize = 64 << 10;

struct Writer<'a> {
    upper: InRoot,
    root: InRoot,
    mounted: &'a [PathBuf],
    builder: Builder<File>,
    /// First names of files that have several.
    linked: HashMap<(u64, u64), PathBuf>,
    deleted: Vec<String>,
}

/// Writes the archive `target` and returns the paths of what was deleted.
pub(super) fn write(
    upper: &Path,
    root: &Path,
    mounted: &[PathBuf],
    target: &Path,
) -> PortResult<Vec<String>> {
    let file = File::create(target).map_err(failed("cannot create", target))?;
    let mut writer = Writer {
        upper: InRoot::open(upper)?,
        root: InRoot::open(root)?,
        mounted,
        builder: Builder::new(file),
        linked: HashMap::new(),
        deleted: Vec::new(),
    };
    // Directories that are still to be looked into.
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for name in writer.names(&directory)? {
            let path = directory.join(name);
            if writer.is_mounted(&path) {
                continue;
            }
            if writer.add(&path)? == FileType::Directory {
                waiting.push(path);
            }
        }
    }
    let finished = writer.builder.into_inner();
    finished.map_err(failed("cannot write", target))?;
    Ok(writer.deleted)
}

impl Writer<'_> {
    fn names(&self, directory: &Path) -> PortResult<Vec<PathBuf>> {
        let shown = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = self.upper.open_file(shown, flags)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&opened).map_err(io::Error::from)? {
            let entry = entry.map_err(io::Error::from)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
            }
        }
        names.sort();
        Ok(names)
    }

    fn is_mounted(&self, path: &Path) -> bool {
        self.mounted
            .iter()
            .any(|mounted| mounted.strip_prefix("/").is_ok_and(|place| place == path))
    }

    /// Adds one file, and says what it is in the layer.
    fn add(&mut self, path: &Path) -> PortResult<FileType> {
        let changed = self.upper.symlink_stat(path)?;
        let kind = FileType::from_raw_mode(changed.st_mode);
        if kind == FileType::CharacterDevice && changed.st_rdev == 0 {
            self.deleted.push(format!("/{}", path.display()));
            return Ok(kind);
        }
        let seen = match self.root.symlink_stat(path) {
            Ok(seen) => seen,
            Err(error) if error.is_not_found() => return Ok(kind),
            Err(error) => return Err(error.into()),
        };
        let written = self.append(path, &seen);
        written.map_err(|error| -> PortError {
            format!("cannot save /{} of the container: {error}", path.display()).into()
        })?;
        Ok(kind)
    }

    fn append(&mut self, path: &Path, seen: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(seen.st_mode);
        if kind != FileType::Directory && seen.st_nlink > 1 {
            let identity = (seen.st_dev, seen.st_ino);
            if let Some(first) = self.linked.get(&identity) {
                let mut header = header(seen, EntryType::Link);
                return self.builder.append_link(&mut header, path, first);
            }
            self.linked.insert(identity, path.to_owned());
        }
        let open = |root: &InRoot, flags: OFlags| -> io::Result<File> {
            root.open_file(path, flags | OFlags::NOFOLLOW)
                .map_err(other)
        };
        match kind {
            FileType::Directory => {
                let directory = open(&self.root, OFlags::RDONLY | OFlags::DIRECTORY)?;
                self.append_attributes(&directory)?;
                let mut header = header(seen, EntryType::Directory);
                let mut name = path.as_os_str().to_owned();
                name.push("/");
                self.builder.append_data(&mut header, name, io::empty())
            }
            FileType::RegularFile => {
                let mut file = open(&self.root, OFlags::RDONLY | OFlags::NONBLOCK)?;
                self.append_attributes(&file)?;
                self.builder.append_file(path, &mut file)
            }
            FileType::Symlink => {
                let handle = open(&self.root, OFlags::PATH)?;
                let target = rustix::fs::readlinkat(&handle, c"", Vec::new())?;
                let target = std::ffi::OsStr::from_bytes(target.as_bytes());
                let mut header = header(seen, EntryType::Symlink);
                self.builder.append_link(&mut header, path, target)
            }
            FileType::Fifo => {
                let mut header = header(seen, EntryType::Fifo);
                self.builder.append_data(&mut header, path, io::empty())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let kind = if kind == FileType::BlockDevice {
                    EntryType::Block
                } else {
                    EntryType::Char
                };
                let mut header = header(seen, kind);
                header.set_device_major(rustix::fs::major(seen.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(seen.st_rdev))?;
                self.builder.append_data(&mut header, path, io::empty())
            }
            // Sockets are made anew by who listens on them.
            _ => Ok(()),
        }
    }

    /// Capabilities and what else the container set.
    fn append_attributes(&mut self, file: &File) -> io::Result<()> {
        let mut list = vec![0; MAX_ATTRIBUTE];
        let length = match rustix::fs::flistxattr(file, &mut list[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        for name in list[..length].split(|byte| *byte == 0) {
            let left_out = name.is_empty() || LEFT_OUT.iter().any(|start| name.starts_with(start));
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if left_out {
                continue;
            }
            let mut value = vec![0; MAX_ATTRIBUTE];
            let length = rustix::fs::fgetxattr(file, name, &mut value[..])?;
            value.truncate(length);
            found.push((format!("SCHILY.xattr.{name}"), value));
        }
        if found.is_empty() {
            return Ok(());
        }
        let found = found.iter();
        self.builder
            .append_pax_extensions(found.map(|(name, value)| (name.as_str(), value.as_slice())))
    }
}

fn other(error: InRootError) -> io::Error {
    io::Error::other(error)
}

fn header(seen: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(seen.st_mode & 0o7777);
    header.set_uid(seen.st_uid.into());
    header.set_gid(seen.st_gid.into());
    header.set_mtime(u64::try_from(seen.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{CWD, Mode, makedev, mknodat};

    use super::*;

    #[test]
    fn changes_are_told_apart_from_mounts_and_deletions() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (upper, root) = (place.path().join("upper"), place.path().join("root"));
        for tree in [&upper, &root] {
            fs::create_dir_all(tree.join("etc/deep")).unwrap();
            fs::create_dir_all(tree.join("proc/never")).unwrap();
            fs::write(tree.join("etc/deep/file"), "content").unwrap();
            fs::hard_link(tree.join("etc/deep/file"), tree.join("etc/deep/linked")).unwrap();
            fs::write(tree.join("etc/resolv.conf"), "").unwrap();
            symlink("/etc/shadow", tree.join("etc/link")).unwrap();
        }
        // Changed without its content, as when a layer's owners are mapped.
        fs::write(upper.join("etc/owner"), "").unwrap();
        fs::write(root.join("etc/owner"), "from below").unwrap();
        fs::set_permissions(root.join("etc/owner"), fs::Permissions::from_mode(0o4750)).unwrap();
        let kind = rustix::fs::FileType::CharacterDevice;
        mknodat(CWD, upper.join("gone"), kind, Mode::empty(), makedev(0, 0)).unwrap();
        // What leads out of the trees is not followed.
        symlink("/", upper.join("out")).unwrap();
        fs::create_dir(root.join("out")).unwrap();

        let target = place.path().join("diff.tar");
        let mounted = ["/proc".into(), "/etc/resolv.conf".into()];
        let deleted = write(&upper, &root, &mounted, &target).unwrap();
        assert_eq!(deleted, ["/gone"]);
        let mut archive = tar::Archive::new(File::open(&target).unwrap());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let (path, link) = (entry.path().unwrap(), entry.link_name().unwrap());
            let link = link
                .map(|link| format!(" -> {}", link.display()))
                .unwrap_or_default();
            seen.push(
                format!("{}{link} {text}", path.display())
                    .trim_end()
                    .to_owned(),
            );
            if path.ends_with("owner") {
                assert_eq!(entry.header().mode().unwrap() & 0o7777, 0o4750);
            }
        }
        assert_eq!(
            seen,
            [
                "etc/",
                "out/",
                "etc/deep/",
                "etc/link -> /etc/shadow",
                "etc/owner from below",
                "etc/deep/file content",
                "etc/deep/linked -> etc/deep/file",
            ]
        );
    }
}
