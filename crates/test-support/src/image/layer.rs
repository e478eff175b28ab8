//! A layer: an archive of files, and how it is packed.

use std::io::Write;

use anyhow::{Context, Result};
use tar::{EntryType, Header};

/// How a layer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The bare archive.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    pub(super) fn pack(self, raw: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(raw.to_vec()),
            Self::Gzip => {
                let level = flate2::Compression::fast();
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
                writer.write_all(raw).context("gzip a layer")?;
                writer.finish().context("gzip a layer")
            }
            Self::Zstd => zstd::encode_all(raw, 1).context("compress a layer with zstd"),
        }
    }
}

#[derive(Debug, Clone)]
enum Content {
    File(Vec<u8>),
    Directory,
    SymbolicLink(String),
    HardLink(String),
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    mode: u32,
    owner: (u64, u64),
    content: Content,
}

/// The files of a layer, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: Vec<Entry>,
}

impl Layer {
    /// An empty layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory of root's.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.add(path, mode, Content::Directory)
    }

    /// A file of root's.
    #[must_use]
    pub fn file(self, path: &str, bytes: &[u8], mode: u32) -> Self {
        self.add(path, mode, Content::File(bytes.to_vec()))
    }

    /// A symbolic link.
    #[must_use]
    pub fn symbolic_link(self, path: &str, target: &str) -> Self {
        self.add(path, 0o777, Content::SymbolicLink(target.to_owned()))
    }

    /// Another name of a file added before.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(path, 0o644, Content::HardLink(target.to_owned()))
    }

    /// A whiteout: hides `name` of the layers below.
    #[must_use]
    pub fn whiteout(self, directory: &str, name: &str) -> Self {
        self.file(&format!("{directory}/.wh.{name}"), b"", 0o644)
    }

    /// Gives the entry added last another owner.
    #[must_use]
    pub fn owned_by(mut self, uid: u64, gid: u64) -> Self {
        if let Some(last) = self.entries.last_mut() {
            last.owner = (uid, gid);
        }
        self
    }

    /// The archive.
    pub(super) fn into_tar(self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for entry in self.entries {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.0);
            header.set_gid(entry.owner.1);
            header.set_mtime(1_767_225_600);
            header.set_size(0);
            let path = &entry.path;
            let added = match entry.content {
                Content::File(bytes) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())
                }
                Content::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, path, std::io::empty())
                }
                Content::SymbolicLink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path, target)
                }
                Content::HardLink(target) => {
                    header.set_entry_type(EntryType::Link);
                    archive.append_link(&mut header, path, target)
                }
            };
            added.with_context(|| format!("add `{path}` to a layer"))?;
        }
        archive.into_inner().context("finish a layer")
    }

    fn add(mut self, path: &str, mode: u32, content: Content) -> Self {
        self.entries.push(Entry {
            path: path.to_owned(),
            mode,
            owner: (0, 0),
            content,
        });
        self
    }
}
