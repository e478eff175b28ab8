//! Tar archives read in place: an index of their members, nothing is unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tar::EntryType;

use super::ReadSourceError;
use super::file::{FileBlob, PartReader};

/// More members than this are an attack.
const MAX_MEMBERS: usize = 100_000;
/// A compressed archive that unfolds to more than this is refused (bytes).
const MAX_UNFOLDED: u64 = 256 << 30;
/// Links to links to ... are followed this often.
const MAX_LINKS: usize = 8;

/// An open archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    /// The plain tar: the archive itself or an unfolded copy without a name.
    file: Arc<File>,
    members: HashMap<String, Member>,
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Name of another member.
    Link(String),
}

impl Archive {
    /// Opens and indexes an archive. A compressed one is unfolded into `scratch` first, into a file without a name.
    pub(crate) fn open(path: &Path, scratch: &Path) -> Result<Self, ReadSourceError> {
        let io = |e| ReadSourceError::io(path, e);
        let mut file = File::open(path).map_err(io)?;
        let mut magic = [0; 2];
        let read = (&mut file).take(2).read(&mut magic).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        if magic[..read] == [0x1f, 0x8b] {
            file = unfold(path, file, scratch)?;
        }
        let members = index(path, &file)?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            members,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of a member in bytes, following links within the archive.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, size)| size)
    }

    /// A small member, whole.
    pub(crate) fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>, ReadSourceError> {
        let (_, size) = self.require(name)?;
        if size > limit {
            return Err(ReadSourceError::content(
                &self.path,
                format!("`{name}` is larger than {limit} bytes"),
            ));
        }
        let mut bytes = Vec::new();
        self.reader(name)?
            .read_to_end(&mut bytes)
            .map_err(|e| ReadSourceError::io(&self.path, e))?;
        Ok(bytes)
    }

    /// A member to read from its beginning.
    pub(crate) fn reader(&self, name: &str) -> Result<impl Read + Send + use<>, ReadSourceError> {
        let (offset, size) = self.require(name)?;
        Ok(PartReader {
            file: self.file.clone(),
            at: offset,
            end: offset.saturating_add(size),
        })
    }

    /// A member as a blob.
    pub(crate) fn blob(&self, name: &str) -> Result<FileBlob, ReadSourceError> {
        let (offset, size) = self.require(name)?;
        Ok(FileBlob::part(&self.path, self.file.clone(), offset, size))
    }

    fn require(&self, name: &str) -> Result<(u64, u64), ReadSourceError> {
        let missing = || ReadSourceError::content(&self.path, format!("no member `{name}`"));
        self.find(name).ok_or_else(missing)
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normalize(Path::new(name))?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

fn unfold(path: &Path, file: File, scratch: &Path) -> Result<File, ReadSourceError> {
    let mut plain = tempfile::tempfile_in(scratch).map_err(|e| ReadSourceError::io(scratch, e))?;
    let mut unfolded =
        flate2::bufread::MultiGzDecoder::new(BufReader::new(file)).take(MAX_UNFOLDED);
    let size =
        std::io::copy(&mut unfolded, &mut plain).map_err(|e| ReadSourceError::io(path, e))?;
    if size == MAX_UNFOLDED {
        return Err(ReadSourceError::content(
            path,
            format!("unfolds to more than {MAX_UNFOLDED} bytes"),
        ));
    }
    plain
        .seek(SeekFrom::Start(0))
        .map_err(|e| ReadSourceError::io(scratch, e))?;
    Ok(plain)
}

fn index(path: &Path, file: &File) -> Result<HashMap<String, Member>, ReadSourceError> {
    let io = |e| ReadSourceError::io(path, e);
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(io)? {
        let entry = entry.map_err(io)?;
        let entry_path = entry.path().map_err(io)?;
        let Some(name) = normalize(&entry_path) else {
            continue; // cannot be asked for
        };
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => Member::File {
                offset: entry.raw_file_position(),
                size: entry.size(),
            },
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().map_err(io)?.unwrap_or_default();
                let base = match kind {
                    EntryType::Symlink => entry_path.parent().unwrap_or(Path::new("")),
                    _ => Path::new(""),
                };
                match normalize(&base.join(target)) {
                    Some(target) => Member::Link(target),
                    None => continue,
                }
            }
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > MAX_MEMBERS {
            return Err(ReadSourceError::content(
                path,
                format!("more than {MAX_MEMBERS} members"),
            ));
        }
    }
    Ok(members)
}

/// A member's name without `.`, `..` and leading slash; `None` if it leaves the archive or is not text.
fn normalize(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            _ => {}
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
