//! Images in Docker's old format: what they are is only known when their layers are unpacked.

use std::sync::Arc;

use crioxide_names::{Algorithm, Digest};
use crioxide_registry::ContentHasher;
use crioxide_store::LayerId;

use super::patience::Pulse;
use super::resolve::{Manifests, ResolvedImage};
use super::{Copier, CopyError, Wanted};
use crate::layer::StagedLayer;
use crate::manifest::{Descriptor, ImageManifest, ManifestError, Schema1};
use crate::progress::{Audience, LayerState, ProgressEvent};
use crate::source::Source;

impl Copier {
    /// Fetches what the store does not have, and makes the config that the image would have in the newer format.
    ///
    /// Nothing is locked, as the layers' ids are not known; if another pull of the same layers comes first, its layers
    /// are used.
    pub(super) async fn fetch_schema1(
        &self,
        source: &Arc<dyn Source>,
        manifests: Manifests,
        manifest: &Schema1,
        audience: &Arc<Audience>,
    ) -> Result<(ResolvedImage, Vec<StagedLayer>), CopyError> {
        let mut layers = Vec::new();
        for digest in manifest.blobs() {
            layers.push(Descriptor {
                media_type: String::new(),
                digest: digest.clone(),
                size: source.blob_size(digest).await?,
                urls: Vec::new(),
                annotations: Default::default(),
            });
        }
        audience.report(&ProgressEvent::Resolved {
            source: source.name(),
            layers: layers
                .iter()
                .map(|layer| (layer.digest.clone(), layer.size))
                .collect(),
        });
        let mut diff_ids = self.known_layers(&layers).await?;
        for (index, layer) in layers.iter().enumerate().take(diff_ids.len()) {
            audience.report(&ProgressEvent::Layer {
                index,
                digest: layer.digest.clone(),
                done: layer.size,
                total: layer.size,
                state: LayerState::Reused,
            });
        }
        let wanted = layers.iter().cloned().enumerate().skip(diff_ids.len());
        let wanted = wanted
            .map(|(index, blob)| Wanted {
                index,
                blob,
                diff_id: None,
                key: None,
            })
            .collect();
        let staged = self.fetch_layers(source, wanted, audience).await?;
        diff_ids.extend(staged.iter().map(|layer| layer.summary.diff_id.clone()));
        let own = manifests.instance.as_ref().unwrap_or(&manifests.top);
        let config = manifest
            .config(&diff_ids)
            .map_err(|reason| ManifestError::Invalid {
                digest: own.digest.to_string(),
                reason,
            })?;
        let modern = ImageManifest {
            config: Descriptor {
                media_type: String::new(),
                digest: ContentHasher::digest_of(Algorithm::Sha256, &config),
                size: config.len() as u64,
                urls: Vec::new(),
                annotations: Default::default(),
            },
            layers,
        };
        let image = ResolvedImage::new(manifests, modern, config, &self.platform)?;
        Ok((image, staged))
    }

    /// Digests of the uncompressed layers that the store has, from the base upwards until one is missing.
    async fn known_layers(&self, layers: &[Descriptor]) -> Result<Vec<Digest>, CopyError> {
        let store = self.store.clone();
        let blobs: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
        let searching = self.patience.run(Pulse::default(), move || {
            let mut known = Vec::new();
            let mut below: Option<LayerId> = None;
            for blob in &blobs {
                let found = store
                    .layers_by_compressed_digest(blob)?
                    .into_iter()
                    .find_map(|record| {
                        let diff_id = Digest::parse(&record.diff_digest).ok()?;
                        let id = LayerId::of_content(below.as_ref(), &diff_id);
                        (id.as_str() == record.id).then_some((id, diff_id))
                    });
                let Some((id, diff_id)) = found else { break };
                known.push(diff_id);
                below = Some(id);
            }
            Ok::<_, crioxide_store::LayerError>(known)
        });
        let found = searching.await?;
        found.map_err(|source| CopyError::Store {
            source: Box::new(source.into()),
        })
    }
}

impl ResolvedImage {
    /// The ids of its layers in the store, base layer first.
    pub(super) fn layer_ids(&self) -> Vec<LayerId> {
        let mut ids: Vec<LayerId> = Vec::with_capacity(self.diff_ids.len());
        for diff_id in &self.diff_ids {
            ids.push(LayerId::of_content(ids.last(), diff_id));
        }
        ids
    }
}
