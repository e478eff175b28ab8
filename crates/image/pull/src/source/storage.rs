//! `containers-storage:`: an image of another store of this machine.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use crioxide_names::{Digest, ImageReference};
use crioxide_registry::{Signature, Wanted};
use crioxide_store::{ImageRecord, LayerId, Store, StoreOptions};

use super::{Blob, FileBlob, RawManifest, ReadSourceError, Source, SourceError};
use crate::manifest::Descriptor;
use crate::trust::kept::kept;

/// What the store is called in a name: `[driver@root+run:option,…]`, all of it but the root with a default.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    driver: String,
    root: PathBuf,
    run: Option<PathBuf>,
    options: Vec<String>,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        let (driver, rest) = inner.split_once('@').unwrap_or(("", inner));
        let (paths, options) = rest.split_once(':').unwrap_or((rest, ""));
        let (root, run) = match paths.split_once('+') {
            Some((root, run)) => (root, Some(PathBuf::from(run))),
            None => (paths, None),
        };
        let options = options.split(',').filter(|option| !option.is_empty());
        root.starts_with('/').then(|| Self {
            driver: driver.to_owned(),
            root: root.into(),
            run,
            options: options.map(str::to_owned).collect(),
        })
    }
}

/// An image of a store. Its layers are no blobs there: they come as tars.
pub(crate) struct StorageSource {
    store: Arc<Store>,
    record: Arc<ImageRecord>,
    root: PathBuf,
}

impl StorageSource {
    /// The image that `reference` finds in the store called `place`.
    pub(crate) fn open(place: &str, reference: &str) -> Result<Self, ReadSourceError> {
        let parsed = Place::parse(place).ok_or_else(|| {
            let form = "not a store, which is [DRIVER@ROOT+RUNROOT:OPTION,…]";
            ReadSourceError::content(place.as_ref(), form)
        })?;
        let root = parsed.root;
        let flawed = |error: &dyn std::error::Error| {
            ReadSourceError::content(&root, crate::error::chain(error))
        };
        // To open it would make it.
        if !root.is_dir() {
            return Err(ReadSourceError::content(&root, "there is no store"));
        }
        let defaults = StoreOptions::default();
        let options = StoreOptions {
            graph_root: root.clone(),
            run_root: parsed.run.unwrap_or(defaults.run_root),
            driver: parsed.driver,
            driver_options: parsed.options,
            ..StoreOptions::default()
        };
        let store = Store::open(options).map_err(|error| flawed(&error))?;
        let name = ImageReference::parse_docker_style(reference);
        let name = name.map(|name| name.with_default_tag().to_string());
        let lookups = [Some(reference.to_owned()), name.ok()];
        for lookup in lookups.into_iter().flatten() {
            if let Some(record) = store.image(&lookup).map_err(|error| flawed(&error))? {
                let store = Arc::new(store);
                return Ok(Self {
                    store,
                    record,
                    root,
                });
            }
        }
        let reason = format!("there is no image `{reference}`");
        Err(ReadSourceError::content(&root, reason))
    }

    fn document(&self, key: &str) -> Result<Vec<u8>, SourceError> {
        let found = self.store.image_big_data(&self.record.id, key);
        found.map_err(|error| self.flawed(&error))
    }

    fn flawed(&self, error: &dyn std::error::Error) -> SourceError {
        ReadSourceError::content(&self.root, crate::error::chain(error)).into()
    }

    /// The image's layer whose tar has that digest.
    fn find_layer(&self, diff_id: &Digest) -> Result<Option<LayerId>, crioxide_store::LayerError> {
        let mut next = self.record.layer.clone();
        while !next.is_empty() {
            let id = LayerId::parse(&next)?;
            let Some(layer) = self.store.layer(&id)? else {
                break;
            };
            if layer.diff_digest == diff_id.as_str() {
                return Ok(Some(id));
            }
            next.clone_from(&layer.parent);
        }
        Ok(None)
    }
}

#[async_trait]
impl Source for StorageSource {
    fn name(&self) -> String {
        format!(
            "containers-storage:[{}]{}",
            self.root.display(),
            self.record.id
        )
    }

    async fn top_manifest(&self) -> Result<RawManifest, SourceError> {
        let digest = Digest::parse(&self.record.digest).map_err(|error| self.flawed(&error))?;
        Ok(RawManifest {
            bytes: self.document("manifest")?,
            media_type: String::new(),
            digest,
        })
    }

    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, SourceError> {
        let bytes = self.document(&format!("manifest-{digest}"))?;
        Ok(super::dir::verified(&self.root, bytes, digest)?)
    }

    /// Only configs are kept as they came.
    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        let bytes = self.document(descriptor.digest.as_str())?;
        let reader = Box::new(std::io::Cursor::new(bytes));
        Ok(Blob::File(FileBlob::new(&self.root, reader)))
    }

    async fn layer_tar(
        &self,
        diff_id: &Digest,
    ) -> Result<Option<Box<dyn Read + Send>>, SourceError> {
        let found = self
            .find_layer(diff_id)
            .map_err(|error| self.flawed(&error))?;
        let Some(id) = found else {
            return Ok(None);
        };
        let tar = self.store.layer_tar(&id);
        Ok(Some(Box::new(tar.map_err(|error| self.flawed(&error))?)))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<u64, SourceError> {
        Ok(self.document(digest.as_str())?.len() as u64)
    }

    async fn signatures(
        &self,
        _manifest: &Digest,
        _wanted: Wanted,
    ) -> Result<Vec<Signature>, SourceError> {
        kept(&self.store, &self.record).map_err(|error| self.flawed(&error))
    }

    fn embedded_names(&self) -> Vec<ImageReference> {
        let names = self.record.names.iter();
        names
            .filter_map(|name| ImageReference::parse_docker_style(name).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_called_as_by_skopeo() {
        let place = Place::parse("[vfs@/a+/b:vfs.x=1,vfs.y=2]").unwrap();
        assert_eq!((place.driver.as_str(), place.options.len()), ("vfs", 2));
        assert_eq!((place.root, place.run), ("/a".into(), Some("/b".into())));
        let place = Place::parse("[/a]").unwrap();
        assert_eq!((place.driver.as_str(), place.run), ("", None));
        for flawed in ["", "/a", "[/a", "[a]", "[overlay@]"] {
            assert_eq!(Place::parse(flawed), None, "{flawed}");
        }
    }
}
