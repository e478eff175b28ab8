//! Reading checkpoints that come from anywhere: archives and images.
//!
//! Only plain files of known names are seen, each once. Nothing is unpacked by name.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Take};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crioxide_engine::ports::{CheckpointSource, PortError, PortResult};
use crioxide_files::InRoot;
use crioxide_names::ImageId;
use crioxide_store::{LayerId, MountOptions, Store, UnmountForce};
use rustix::fs::{Dir, OFlags};

use super::{IMAGES, archive::LOG, failed};

/// Files of a checkpoint beside criu's images.
const FILES: &[&str] = &[
    "config.dump",
    "spec.dump",
    "rootfs-diff.tar",
    "deleted.files",
    LOG,
];

/// Most members of an archive, and most images.
const MAX_MEMBERS: usize = 1_000_000;

/// A checkpoint's files by their names.
pub(super) enum Opened {
    /// In an archive: where each one begins, and its length.
    Archive {
        path: PathBuf,
        file: File,
        members: BTreeMap<String, (u64, u64)>,
    },
    /// In an image, which is mounted as long as this is there.
    Image { root: InRoot, _mount: Mounted },
}

/// A mounted image.
pub(super) struct Mounted {
    store: std::sync::Arc<Store>,
    layer: LayerId,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.store.unmount(&self.layer, UnmountForce::One) {
            tracing::warn!("Failed to unmount a checkpoint image: {error}");
        }
    }
}

/// A file of a checkpoint.
pub(super) struct Member {
    pub(super) content: Take<File>,
    pub(super) length: u64,
}

impl Opened {
    pub(super) fn open(
        store: &std::sync::Arc<Store>,
        source: &CheckpointSource,
    ) -> PortResult<Self> {
        match source {
            CheckpointSource::Archive(path) => Self::archive(path),
            CheckpointSource::Image(id) => Self::image(store, id),
        }
    }

    fn archive(path: &Path) -> PortResult<Self> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(path)
            .map_err(failed("failed to open checkpoint archive", path))?;
        let metadata = file.metadata().map_err(failed("cannot look at", path))?;
        if !metadata.is_file() {
            return Err(format!("checkpoint archive {} is not a file", path.display()).into());
        }
        let members = index(&file).map_err(|error| -> PortError {
            format!(
                "unpacking of checkpoint archive {} failed: {error}",
                path.display()
            )
            .into()
        })?;
        Ok(Self::Archive {
            path: path.to_owned(),
            file,
            members,
        })
    }

    fn image(store: &std::sync::Arc<Store>, id: &ImageId) -> PortResult<Self> {
        let image = store.image(id.as_str())?;
        let image = image.ok_or_else(|| format!("the store has no image {id}"))?;
        let path = store.mount_image(id.as_str(), &MountOptions::default())?;
        let mount = Mounted {
            store: store.clone(),
            layer: LayerId::parse(&image.layer)?,
        };
        Ok(Self::Image {
            root: InRoot::open(path)?,
            _mount: mount,
        })
    }

    /// Names of criu's images.
    pub(super) fn images(&self) -> PortResult<Vec<String>> {
        match self {
            Self::Archive { members, .. } => {
                let images = members.keys().filter_map(|name| name.strip_prefix(IMAGES));
                let images = images.filter_map(|name| name.strip_prefix('/'));
                Ok(images.map(str::to_owned).collect())
            }
            Self::Image { root, .. } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let directory = root.open_file(IMAGES, flags)?;
                let mut names = Vec::new();
                for entry in Dir::read_from(&directory).map_err(std::io::Error::from)? {
                    let entry = entry.map_err(std::io::Error::from)?;
                    let name = entry
                        .file_name()
                        .to_str()
                        .map_err(|_| "an image has an odd name")?;
                    if name != "." && name != ".." {
                        names.push(name.to_owned());
                    }
                    if names.len() > MAX_MEMBERS {
                        return Err("the checkpoint has too many files".into());
                    }
                }
                Ok(names)
            }
        }
    }

    /// Opens a file; `None` if it is not there.
    pub(super) fn member(&self, name: &str) -> PortResult<Option<Member>> {
        match self {
            Self::Archive {
                path,
                file,
                members,
            } => {
                let Some(&(start, length)) = members.get(name) else {
                    return Ok(None);
                };
                // A descriptor of its own, so that members can be read side by side.
                let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
                let mut file = File::open(own).map_err(failed("cannot open", path))?;
                file.seek(SeekFrom::Start(start))
                    .map_err(failed("cannot read", path))?;
                Ok(Some(Member {
                    content: file.take(length),
                    length,
                }))
            }
            Self::Image { root, .. } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = match root.open_file(name, flags) {
                    Ok(file) => file,
                    Err(error) if error.is_not_found() => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(format!("{name} of the checkpoint is not a file").into());
                }
                let length = metadata.len();
                Ok(Some(Member {
                    content: file.take(length),
                    length,
                }))
            }
        }
    }

    /// A file of at most `limit` bytes, whole; `None` if it is not there.
    pub(super) fn read(&self, name: &str, limit: u64) -> PortResult<Option<Vec<u8>>> {
        let Some(mut member) = self.member(name)? else {
            return Ok(None);
        };
        if member.length > limit {
            let length = member.length;
            return Err(format!("{name} of the checkpoint has {length} bytes").into());
        }
        let mut bytes = Vec::new();
        member.content.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Finds the members of an archive that are of use.
fn index(file: &File) -> Result<BTreeMap<String, (u64, u64)>, String> {
    let mut members = BTreeMap::new();
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries_with_seek();
    for (number, entry) in entries.map_err(|error| error.to_string())?.enumerate() {
        let entry = entry.map_err(|error| error.to_string())?;
        if number > MAX_MEMBERS {
            return Err("it has too many members".to_owned());
        }
        let bytes = entry.path_bytes();
        let Ok(name) = std::str::from_utf8(&bytes) else {
            continue;
        };
        let name = name.strip_prefix("./").unwrap_or(name).to_owned();
        let image = name
            .strip_prefix(IMAGES)
            .and_then(|rest| rest.strip_prefix('/'));
        let is_directory = entry.header().entry_type().is_dir();
        let wanted = FILES.contains(&name.as_str()) || image.is_some_and(|name| !name.is_empty());
        if !wanted {
            continue;
        }
        let plain = image.is_none_or(|name| !name.contains('/'));
        if is_directory || !plain || !entry.header().entry_type().is_file() {
            return Err(format!("{name:?} is not a file"));
        }
        let place = (entry.raw_file_position(), entry.size());
        if members.insert(name.clone(), place).is_some() {
            return Err(format!("{name:?} is there twice"));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            // Names as an attacker writes them, which the builder would not take.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == tar::EntryType::Symlink {
                header.as_mut_bytes()[157..168].copy_from_slice(b"/etc/shadow");
            }
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("c.tar");
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        (place, path)
    }

    #[test]
    fn members_are_read_by_name_and_nothing_else_is_seen() {
        use tar::EntryType as E;
        let (_place, path) = archive(&[
            ("./config.dump", E::Regular, b"{}"),
            ("checkpoint/", E::Directory, b""),
            ("checkpoint/core-1.img", E::Regular, b"core"),
            ("artifacts/x", E::Symlink, b""),
            ("/etc/passwd", E::Regular, b"not wanted"),
            ("../../etc/passwd", E::Regular, b"not wanted"),
        ]);
        let opened = Opened::archive(&path).unwrap();
        assert_eq!(opened.images().unwrap(), ["core-1.img"]);
        assert_eq!(opened.read("config.dump", 2).unwrap().unwrap(), b"{}");
        assert!(opened.read("config.dump", 1).is_err());
        assert_eq!(
            opened.read("checkpoint/core-1.img", 9).unwrap().unwrap(),
            b"core"
        );
        for unseen in [
            "spec.dump",
            "/etc/passwd",
            "../../etc/passwd",
            "artifacts/x",
        ] {
            assert!(opened.read(unseen, 99).unwrap().is_none(), "{unseen}");
        }
    }

    #[test]
    fn archives_that_try_something_are_refused() {
        use tar::EntryType as E;
        for (entries, reason) in [
            (vec![("config.dump", E::Symlink, &b""[..])], "not a file"),
            (vec![("config.dump", E::Block, b"")], "not a file"),
            (
                vec![("checkpoint/core-1.img", E::Symlink, b"")],
                "not a file",
            ),
            (vec![("checkpoint/../../x", E::Regular, b"")], "not a file"),
            (vec![("checkpoint/a/b", E::Regular, b"")], "not a file"),
            (
                vec![
                    ("config.dump", E::Regular, b"{}"),
                    ("./config.dump", E::Regular, b"[]"),
                ],
                "twice",
            ),
        ] {
            let (_place, path) = archive(&entries);
            let refused = Opened::archive(&path).err().unwrap().to_string();
            assert!(refused.contains(reason), "{entries:?}: {refused}");
        }
    }

    #[test]
    fn only_files_are_archives() {
        let place = tempfile::tempdir().unwrap();
        let (link, fifo) = (place.path().join("link"), place.path().join("fifo"));
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        for path in [
            &link,
            &fifo,
            &place.path().to_owned(),
            &place.path().join("none"),
        ] {
            assert!(Opened::archive(path).is_err(), "{}", path.display());
        }
        std::fs::write(place.path().join("text"), vec![b'x'; 2048]).unwrap();
        let refused = Opened::archive(&place.path().join("text")).err().unwrap();
        assert!(refused.to_string().contains("unpacking"), "{refused}");
    }
}
