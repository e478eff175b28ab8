//! New layers: filled outside every lock, then moved in and recorded.

use super::{LayerError, Trash};
use crate::driver::{LayerUse, RootMode};
use crate::record::Compression;
use crate::records::Transaction;
use crate::staging::{Staged, move_file};
use crate::store::{IMAGE_STORE, STABLE};
use crate::unpack::UnpackSummary;
use crate::{LayerId, LayerRecord, Store};
use crioxide_names::Digest;
use std::io::Read;

/// A layer being filled. Dropping it removes all of it.
#[derive(Debug)]
pub struct LayerStaging {
    directory: Staged,
    content: std::path::PathBuf,
    tar_split: Staged,
    /// `None` until a tar was unpacked.
    root: Option<RootMode>,
}

/// What is recorded about a new layer.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// Its id, normally [`LayerId::of_content`].
    pub id: LayerId,
    /// The layer below, which must have been committed.
    pub parent: Option<LayerId>,
    /// Digest of the blob as it was pulled; `None` when it came as a plain tar from elsewhere.
    pub compressed_digest: Option<Digest>,
    /// Size of that blob in bytes.
    pub compressed_size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Size of the uncompressed tar in bytes.
    pub diff_size: u64,
    /// How the blob was compressed.
    pub compression: Compression,
    /// Sorted user ids of the tar's headers.
    pub uids: Vec<u32>,
    /// Sorted group ids of the tar's headers.
    pub gids: Vec<u32>,
}

impl Store {
    /// Starts a layer. No lock is held until it is committed, so the layers of an image may be filled all at once.
    pub fn stage_layer(&self) -> Result<LayerStaging, LayerError> {
        let directory = self.staging(LayerUse::Image).reserve()?;
        let tar_split = self.file_staging.reserve()?;
        self.driver.prepare(directory.path(), LayerUse::Image)?;
        let content = self.driver.staged_content(directory.path());
        Ok(LayerStaging {
            directory,
            content,
            tar_split,
            root: None,
        })
    }

    /// Records a filled layer. See [`Store::commit_layers`].
    pub fn commit_layer(&self, staging: LayerStaging, new: NewLayer) -> Result<(), LayerError> {
        self.commit_layers(vec![(staging, new)]).map(drop)
    }

    /// Records filled layers, all of them or none. Each lies on one that is recorded or that comes before it.
    ///
    /// They are durable when this returns if [`Store::sync`] was called after they were filled. Of an id that exists
    /// already the staged layer is dropped. Returns the ids that are new.
    pub fn commit_layers(
        &self,
        filled: Vec<(LayerStaging, NewLayer)>,
    ) -> Result<Vec<LayerId>, LayerError> {
        let mut layers = self.layers.write()?;
        let mut installed = Vec::new();
        // What is not needed, or not any more, is removed after the lock is free.
        let mut unneeded = Vec::new();
        let mut trash = Trash::default();
        let mut recorded = Ok(());
        for (staging, new) in filled {
            if recorded.is_err() || layers.table().get(new.id.as_str()).is_some() {
                unneeded.push(staging);
                continue;
            }
            installed.push(new.id.clone());
            recorded = self.install_layer(&mut layers, &staging, new);
            unneeded.push(staging);
        }
        if recorded.is_ok() && !installed.is_empty() {
            recorded = self.driver.flush(&installed).map_err(LayerError::from);
        }
        if recorded.is_ok() {
            recorded = layers.save().map_err(LayerError::from);
            if recorded.is_err() && layers.is_written() {
                // The records must not outlive what they name.
                for id in &installed {
                    layers.remove(id.as_str());
                }
                if layers.save().is_err() && !layers.is_written() {
                    return recorded.map(|()| installed);
                }
            }
        }
        if recorded.is_err() {
            for id in installed.iter().rev() {
                match self.discard_layer(id) {
                    Ok(content) => trash.absorb(content),
                    // The next start finds it. What went wrong first is what the caller has to know.
                    Err(error) => {
                        tracing::warn!(%error, layer = %id, "a layer that was not recorded stays")
                    }
                }
            }
        }
        drop(layers);
        self.remove_later(trash);
        drop(unneeded);
        recorded.map(|()| installed)
    }

    fn install_layer(
        &self,
        layers: &mut Transaction<'_, LayerRecord>,
        staging: &LayerStaging,
        new: NewLayer,
    ) -> Result<(), LayerError> {
        let id = new.id.clone();
        if let Some(parent) = &new.parent
            && layers.table().get(parent.as_str()).is_none()
            && self.foreign_layer(parent)?.is_none()
        {
            return Err(LayerError::UnknownParent {
                id: id.to_string(),
                parent: parent.to_string(),
            });
        }
        let staged = staging.directory.path();
        self.driver.stack(
            staged,
            new.parent.as_ref(),
            staging.root.unwrap_or(RootMode::OfParent),
        )?;
        if staging.root.is_some() {
            move_file(staging.tar_split.path(), &self.layout.tar_split(&id))?;
        }
        self.driver.install(staged, &id, LayerUse::Image)?;
        let file = if self.layout.image_store.is_some() {
            IMAGE_STORE
        } else {
            STABLE
        };
        let mut record = new.into_record();
        record.set_owner(staging.directory.owner());
        Ok(layers.insert(record, file)?)
    }
}

impl LayerStaging {
    /// Unpacks an uncompressed tar in one pass, hashing it and keeping what is needed to reproduce it bit for bit.
    ///
    /// Reads `reader` to its end. After an error the staging is of no further use.
    pub fn unpack(&mut self, reader: impl Read + Send) -> Result<UnpackSummary, LayerError> {
        let summary = crate::unpack::unpack(&self.content, self.tar_split.path(), reader)?;
        self.root = Some(summary.root);
        Ok(summary.summary)
    }
}

impl NewLayer {
    /// A layer described by the result of its unpacking; the compressed blob is to be filled in.
    pub fn unpacked(id: LayerId, parent: Option<LayerId>, summary: UnpackSummary) -> Self {
        Self {
            id,
            parent,
            compressed_digest: None,
            compressed_size: 0,
            diff_id: summary.diff_id,
            diff_size: summary.diff_size,
            compression: Compression::None,
            uids: summary.uids,
            gids: summary.gids,
        }
    }

    fn into_record(self) -> LayerRecord {
        let signed = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        LayerRecord {
            id: self.id.to_string(),
            parent: self
                .parent
                .map(|parent| parent.to_string())
                .unwrap_or_default(),
            created: crate::records::time::now(),
            compressed_diff_digest: self
                .compressed_digest
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            compressed_size: signed(self.compressed_size),
            diff_digest: self.diff_id.to_string(),
            diff_size: signed(self.diff_size),
            compression: self.compression.code(),
            uids: self.uids,
            gids: self.gids,
            ..Default::default()
        }
    }
}
