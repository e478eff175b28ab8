//! A layer as the tar it came as.

use crate::tar_split::{LayerTar, LayerTarError};
use crate::{LayerError, LayerId, Store};
use crioxide_files::InRoot;
use std::fs::File;

impl Store {
    /// The uncompressed tar of an image layer, bit for bit as it was unpacked.
    pub fn layer_tar(&self, id: &LayerId) -> Result<LayerTar, LayerTarError> {
        let own = self.layout.tar_split(id);
        let foreign = self.foreign.iter().map(|store| store.layout.tar_split(id));
        let path = std::iter::once(own)
            .chain(foreign)
            .find(|path| path.exists())
            .unwrap_or_else(|| self.layout.tar_split(id));
        let unavailable = |source| LayerTarError::NoTarSplit {
            id: id.to_string(),
            path: path.clone(),
            source,
        };
        let tar_split = File::open(&path).map_err(unavailable)?;
        let content = self
            .layer_content(id)
            .map_err(|error: LayerError| unavailable(std::io::Error::other(error)))?;
        Ok(LayerTar::new(tar_split, InRoot::open(&*content)?))
    }
}
