//! Finding, adding and deleting layers.

mod delete;
pub(crate) use delete::Trash;
mod error;
pub(crate) mod id;
mod original;
mod search;
mod stage;

pub use error::LayerError;
pub use search::{LayerFile, LayerFileError};
pub use stage::{LayerStaging, NewLayer};

use crate::records::RecordsError;
use crate::{LayerContent, LayerId, LayerRecord, Store};
use crioxide_names::Digest;
use std::sync::Arc;

impl Store {
    /// All layers of the own store.
    pub fn layers(&self) -> Result<Vec<Arc<LayerRecord>>, LayerError> {
        Ok(self.layers.glance()?.iter().cloned().collect())
    }

    /// The layer with that id, from the own store or an additional one.
    pub fn layer(&self, id: &LayerId) -> Result<Option<Arc<LayerRecord>>, LayerError> {
        if let Some(layer) = self.layers.glance()?.get(id.as_str()) {
            return Ok(Some(Arc::clone(layer)));
        }
        Ok(self.foreign_layer(id)?)
    }

    /// Complete layers whose uncompressed tar has that digest.
    pub fn layers_by_diff_digest(
        &self,
        digest: &Digest,
    ) -> Result<Vec<Arc<LayerRecord>>, LayerError> {
        self.matching_layers(|layer| layer.diff_digest == digest.as_str())
    }

    /// Complete layers that came as a blob with that digest.
    pub fn layers_by_compressed_digest(
        &self,
        digest: &Digest,
    ) -> Result<Vec<Arc<LayerRecord>>, LayerError> {
        self.matching_layers(|layer| layer.compressed_diff_digest == digest.as_str())
    }

    /// The directory with the content that the layer itself adds, or with all it shows by drivers of whole trees.
    pub fn layer_content(&self, id: &LayerId) -> Result<LayerContent, LayerError> {
        Ok(self.driver.content(id)?)
    }

    fn matching_layers(
        &self,
        matches: impl Fn(&LayerRecord) -> bool,
    ) -> Result<Vec<Arc<LayerRecord>>, LayerError> {
        let usable = |layer: &&Arc<LayerRecord>| !layer.is_incomplete() && matches(layer);
        let mut found: Vec<_> = self
            .layers
            .glance()?
            .iter()
            .filter(usable)
            .cloned()
            .collect();
        for foreign in &self.foreign {
            found.extend(foreign.layers.glance()?.iter().filter(usable).cloned());
        }
        Ok(found)
    }

    pub(crate) fn foreign_layer(
        &self,
        id: &LayerId,
    ) -> Result<Option<Arc<LayerRecord>>, RecordsError> {
        for foreign in &self.foreign {
            if let Some(layer) = foreign.layers.glance()?.get(id.as_str()) {
                return Ok(Some(Arc::clone(layer)));
            }
        }
        Ok(None)
    }
}
