//! The record of every attachment, in the files and format of the reference library.
//!
//! A record is written before ADD, then without a result: the intent. A crash between the two
//! leaves an intent, and the attachment still gets its DEL. The reference library takes such a file
//! as one without a usable result, so CRI-O can finish what was begun here and the other way round.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Attachment;

const KIND: &str = "cniCacheV1";
/// A record holds a configuration and a result, both small.
const RECORD_LIMIT: u64 = 4 * 1024 * 1024;

/// The directory of attachment records.
#[derive(Debug, Clone)]
pub struct ResultCache {
    directory: PathBuf,
}

/// A recorded attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedAttachment {
    /// What plugins were told.
    pub attachment: Attachment,
    /// Text of the network list it was made with.
    pub config: Vec<u8>,
    /// Result of ADD; not there while ADD had not finished.
    pub result: Option<Value>,
    /// Types of the plugins that ran built in, so that the same ones undo it.
    pub builtin: Vec<String>,
    /// Host ports were mapped by the built-in plugin on top of the list.
    pub host_ports: bool,
    /// Device and inode of the network namespace; not known of records of others.
    pub netns_id: Option<(u64, u64)>,
}

/// The records of one interface of one container.
#[derive(Debug, Default)]
pub(crate) struct OfContainer {
    pub(crate) entries: Vec<CachedAttachment>,
    /// Files that should be records, and cannot be read: torn by a power cut, for example.
    pub(crate) broken: Vec<PathBuf>,
}

/// A record could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory could not be made or listed.
    #[error("open CNI result directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The record could not be read.
    #[error("read CNI result `{}`: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The record could not be written.
    #[error("write CNI result `{}`: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The record could not be removed.
    #[error("remove CNI result `{}`", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    capability_args: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// Ours; other readers ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crioxide: Option<Origin>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Origin {
    #[serde(default)]
    builtin: Vec<String>,
    #[serde(default)]
    host_ports: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns_id: Option<(u64, u64)>,
}

impl ResultCache {
    /// The records below `cache_dir`, in its directory `results`.
    pub fn new(cache_dir: &Path) -> Self {
        Self {
            directory: cache_dir.join("results"),
        }
    }

    /// Writes a record, replacing an older one of the same attachment.
    ///
    /// # Errors
    /// When the directory or file cannot be written.
    pub fn store(&self, entry: &CachedAttachment) -> Result<(), CacheError> {
        let attachment = &entry.attachment;
        let record = Record {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: STANDARD.encode(&entry.config),
            if_name: attachment.ifname.clone(),
            network_name: attachment.network.clone(),
            netns: attachment
                .netns
                .as_deref()
                .unwrap_or(Path::new(""))
                .to_string_lossy()
                .into_owned(),
            cni_args: Some(attachment.args.clone()),
            capability_args: Some(attachment.capability_args.clone()),
            result: entry.result.clone(),
            crioxide: Some(Origin {
                builtin: entry.builtin.clone(),
                host_ports: entry.host_ports,
                netns_id: entry.netns_id,
            }),
        };
        let path = self.path_of(attachment);
        let failed = |reason: String| CacheError::Write {
            path: path.clone(),
            reason,
        };
        let bytes = serde_json::to_vec(&record).map_err(|error| failed(error.to_string()))?;
        let options = AtomicOptions {
            mode: 0o600,
            sync: Sync::None,
        };
        let mut written = atomic_write(&path, &bytes, options);
        if written
            .as_ref()
            .is_err_and(|error| error.source.kind() == io::ErrorKind::NotFound)
        {
            self.create_directory()?;
            written = atomic_write(&path, &bytes, options);
        }
        written.map_err(|error| failed(format!("{error}: {}", error.source)))
    }

    /// Removes the record of an attachment; none is no error.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn remove(&self, attachment: &Attachment) -> Result<(), CacheError> {
        remove_file(self.path_of(attachment))
    }

    /// Whether the attachment is on record.
    pub(crate) fn holds(&self, attachment: &Attachment) -> bool {
        self.path_of(attachment).exists()
    }

    /// The records of one interface of one container, whatever the network.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn of_container(
        &self,
        container_id: &str,
        ifname: &str,
    ) -> Result<OfContainer, CacheError> {
        let ending = format!("-{container_id}-{ifname}");
        let mut found = OfContainer::default();
        let names = self.names()?;
        for name in names.iter().filter(|name| name.ends_with(&ending)) {
            match self.load(name) {
                Ok(entry) => found.entries.push(entry),
                Err(error) => {
                    tracing::warn!(%error, "CNI result cannot be used");
                    found.broken.push(self.directory.join(name));
                }
            }
        }
        Ok(found)
    }

    /// Removes a file that could not be read as a record.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub(crate) fn remove_broken(&self, path: PathBuf) -> Result<(), CacheError> {
        remove_file(path)
    }

    /// All records. Files that are no records (of other versions or half written) are left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<CachedAttachment>, CacheError> {
        let load = |name: &String| {
            self.load(name)
                .inspect_err(|error| tracing::warn!(%error, "CNI result left out"))
                .ok()
        };
        Ok(self.names()?.iter().filter_map(load).collect())
    }

    fn path_of(&self, attachment: &Attachment) -> PathBuf {
        let Attachment {
            network,
            container_id,
            ifname,
            ..
        } = attachment;
        self.directory
            .join(format!("{network}-{container_id}-{ifname}"))
    }

    fn create_directory(&self) -> Result<(), CacheError> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = |source| CacheError::Directory {
            path: self.directory.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(directory)
    }

    /// Removes what a writer that was killed left. A writer that is at work now notices and writes again.
    ///
    /// # Errors
    /// When the directory cannot be listed or a file not removed.
    pub fn remove_temporaries(&self) -> Result<(), CacheError> {
        crioxide_files::remove_temporaries(&self.directory, None).map_err(|source| {
            CacheError::Directory {
                path: self.directory.clone(),
                source,
            }
        })
    }

    fn names(&self) -> Result<Vec<String>, CacheError> {
        let failed = |source| CacheError::Directory {
            path: self.directory.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn load(&self, name: &str) -> Result<CachedAttachment, CacheError> {
        let path = self.directory.join(name);
        let failed = |reason: String| CacheError::Read {
            path: path.clone(),
            reason,
        };
        let bytes = read_limited(&path, RECORD_LIMIT).map_err(|error| failed(error.to_string()))?;
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        if record.kind != KIND {
            return Err(failed(format!("kind is `{}`, not `{KIND}`", record.kind)));
        }
        let config = STANDARD
            .decode(&record.config)
            .map_err(|error| failed(format!("key `config`: {error}")))?;
        let origin = record.crioxide.unwrap_or_default();
        Ok(CachedAttachment {
            attachment: Attachment {
                container_id: record.container_id,
                ifname: record.if_name,
                netns: Some(PathBuf::from(record.netns))
                    .filter(|path| !path.as_os_str().is_empty()),
                network: record.network_name,
                args: record.cni_args.unwrap_or_default(),
                capability_args: record.capability_args.unwrap_or_default(),
            },
            config,
            result: record.result.filter(|result| !result.is_null()),
            builtin: origin.builtin,
            host_ports: origin.host_ports,
            netns_id: origin.netns_id,
        })
    }
}

fn remove_file(path: PathBuf) -> Result<(), CacheError> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::Remove { path, source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
