//! One image from a source into the store: manifest, config, layers, record.

mod commit;
mod disk;
mod error;
pub(crate) mod patience;
mod resolve;
mod schema1;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crioxide_names::{Digest, ImageId};
use crioxide_store::{LayerId, Store};
use tokio::sync::{OwnedMutexGuard, Semaphore, watch};
use tokio::task::JoinSet;

pub use error::CopyError;
pub use patience::StallError;

use crate::layer::encryption::{self, LayerKey};
use crate::layer::locks::LayerLocks;
use crate::layer::{LayerError, LayerTask, StagedLayer};
use crate::manifest::Descriptor;
use crate::platform::Platform;
use crate::progress::{Audience, LayerState, ProgressEvent};
use crate::source::Source;
use crate::trust::Trust;
use patience::{GivenUp, Patience, Pulse};
use resolve::{Resolved, ResolvedImage};

/// What all copies into one store share.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) store: Arc<Store>,
    pub(crate) platform: Platform,
    /// Layers that may be fetched at the same time, over all images.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) layer_locks: LayerLocks,
    /// With the disk of the store.
    pub(crate) patience: Arc<Patience>,
    /// Private keys for encrypted layers, read when there is one.
    pub(crate) decryption_keys: RwLock<PathBuf>,
}

/// An image that is in the store now.
#[derive(Debug, Clone)]
pub(crate) struct CopiedImage {
    pub(crate) id: ImageId,
    /// Digest of the manifest that the source's name led to: the list, if it is one.
    pub(crate) digest: Digest,
}

/// A layer to fetch.
struct Wanted {
    /// Position, base layer first.
    index: usize,
    blob: Descriptor,
    /// Digest that its tar must have, if that is known.
    diff_id: Option<Digest>,
    key: Option<LayerKey>,
}

/// A layer of the image at hand.
#[derive(Debug)]
struct Slot {
    id: LayerId,
    /// Held until the layer is in the store, if it was not there.
    missing: Option<OwnedMutexGuard<()>>,
}

impl Copier {
    /// Copies an image and gives it `names`. Nothing is left behind when it fails.
    pub(crate) async fn copy(
        &self,
        source: Arc<dyn Source>,
        names: Vec<String>,
        audience: Arc<Audience>,
        trust: &Trust,
    ) -> Result<CopiedImage, CopyError> {
        self.patience.check()?;
        let (resolved, signatures) = resolve::resolve(&*source, &self.platform, trust).await?;
        let image = match resolved {
            Resolved::Image(mut image) => {
                image.signatures = signatures;
                image
            }
            Resolved::Schema1(manifests, manifest) => {
                let (mut image, staged) = self
                    .fetch_schema1(&source, manifests, &manifest, &audience)
                    .await?;
                image.signatures = signatures;
                let ids = image.layer_ids();
                audience.report(&ProgressEvent::Committing);
                return self.commit(image, ids, (), staged, names).await;
            }
        };
        audience.report(&ProgressEvent::Resolved {
            source: source.name(),
            layers: image
                .layers
                .iter()
                .map(|layer| (layer.digest.clone(), layer.size))
                .collect(),
        });
        // Whoever cannot open a layer gets none that is here already, either.
        let keys = self.unlock(&image.layers).await?;
        let slots = self.slots(&image).await?;
        let staged = self.fetch(&source, &image, keys, &slots, &audience).await?;
        audience.report(&ProgressEvent::Committing);
        let ids: Vec<_> = slots.iter().map(|slot| slot.id.clone()).collect();
        self.commit(*image, ids, slots, staged, names).await
    }

    /// Records an image whose layers are all there; `locks` are held until then.
    async fn commit(
        &self,
        image: ResolvedImage,
        ids: Vec<LayerId>,
        locks: impl Send + 'static,
        staged: Vec<StagedLayer>,
        names: Vec<String>,
    ) -> Result<CopiedImage, CopyError> {
        let store = self.store.clone();
        let copied = CopiedImage {
            id: image.id.clone(),
            digest: image.top.digest.clone(),
        };
        // Runs to its end even if nobody waits any more: an image is recorded whole or not at all.
        let pulse = Pulse::default();
        let steps = pulse.clone();
        let committing = self.patience.run(pulse, move || {
            let result = commit::commit(&store, image, &ids, staged, names, &steps);
            drop(locks);
            result
        });
        committing.await??;
        Ok(copied)
    }

    fn decryption_keys(&self) -> PathBuf {
        let keys = self.decryption_keys.read();
        keys.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys of the layers that are encrypted.
    async fn unlock(&self, layers: &[Descriptor]) -> Result<Vec<Option<LayerKey>>, CopyError> {
        if !layers.iter().any(encryption::is_encrypted) {
            return Ok(vec![None; layers.len()]);
        }
        let (layers, directory) = (layers.to_vec(), self.decryption_keys());
        let unlocking = tokio::task::spawn_blocking(move || {
            let unlocked = encryption::unlock(&layers, &directory);
            unlocked.map_err(|(index, source)| LayerError::Encrypted {
                digest: layers[index].digest.clone(),
                source,
            })
        });
        let unlocked = unlocking
            .await
            .map_err(|source| CopyError::Lost { source })?;
        Ok(unlocked?)
    }

    /// The image's layers, each either in the store or locked for us.
    async fn slots(&self, image: &ResolvedImage) -> Result<Vec<Slot>, CopyError> {
        let mut slots: Vec<Slot> = Vec::with_capacity(image.diff_ids.len());
        for diff_id in &image.diff_ids {
            let id = LayerId::of_content(slots.last().map(|slot| &slot.id), diff_id);
            let mut missing = None;
            if !self.has_layer(&id).await? {
                // Whoever has it may wait for a disk that does not answer.
                let guard = tokio::select! {
                    guard = self.layer_locks.acquire(&id) => guard,
                    stalled = self.patience.ends() => return Err(stalled.into()),
                };
                missing = (!self.has_layer(&id).await?).then_some(guard);
            }
            slots.push(Slot { id, missing });
        }
        Ok(slots)
    }

    async fn has_layer(&self, id: &LayerId) -> Result<bool, CopyError> {
        let (store, id) = (self.store.clone(), id.clone());
        let looking = self
            .patience
            .run(Pulse::default(), move || store.layer(&id));
        let found = looking.await?;
        let found = found.map_err(|source| CopyError::Store {
            source: Box::new(source.into()),
        })?;
        Ok(found.is_some_and(|layer| !layer.is_incomplete()))
    }

    /// Fetches and unpacks what is missing, the largest blobs first.
    async fn fetch(
        &self,
        source: &Arc<dyn Source>,
        image: &ResolvedImage,
        keys: Vec<Option<LayerKey>>,
        slots: &[Slot],
        audience: &Arc<Audience>,
    ) -> Result<Vec<StagedLayer>, CopyError> {
        let mut wanted = Vec::new();
        for ((index, slot), key) in slots.iter().enumerate().zip(keys) {
            let blob = &image.layers[index];
            if slot.missing.is_none() {
                audience.report(&ProgressEvent::Layer {
                    index,
                    digest: blob.digest.clone(),
                    done: blob.size,
                    total: blob.size,
                    state: LayerState::Reused,
                });
            } else {
                wanted.push(Wanted {
                    index,
                    blob: blob.clone(),
                    diff_id: Some(image.diff_ids[index].clone()),
                    key,
                });
            }
        }
        self.fetch_layers(source, wanted, audience).await
    }

    /// Fetches and unpacks layers.
    async fn fetch_layers(
        &self,
        source: &Arc<dyn Source>,
        wanted: Vec<Wanted>,
        audience: &Arc<Audience>,
    ) -> Result<Vec<StagedLayer>, CopyError> {
        let (stopper, stop) = watch::channel(false);
        let mut tasks: Vec<_> = wanted
            .into_iter()
            .map(|wanted| LayerTask {
                store: self.store.clone(),
                source: source.clone(),
                audience: audience.clone(),
                index: wanted.index,
                blob: wanted.blob,
                diff_id: wanted.diff_id,
                key: wanted.key,
                stop: stop.clone(),
                patience: self.patience.clone(),
                pulse: Pulse::default(),
            })
            .collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.blob.size));
        let mut running = JoinSet::new();
        for task in tasks {
            let permits = self.permits.clone();
            running.spawn(async move {
                let _permit = permits.acquire_owned().await;
                task.run().await
            });
        }
        self.collect(running, &stopper).await
    }

    /// Waits for all layers. After the first failure the others are stopped, waited for, and what is staged is removed.
    async fn collect(
        &self,
        mut running: JoinSet<Result<StagedLayer, LayerError>>,
        stopper: &watch::Sender<bool>,
    ) -> Result<Vec<StagedLayer>, CopyError> {
        let mut staged = Vec::new();
        let mut failure: Option<CopyError> = None;
        while let Some(joined) = running.join_next().await {
            let failed = match joined {
                Ok(Ok(layer)) => {
                    staged.push(layer);
                    continue;
                }
                Ok(Err(error)) => error.into(),
                Err(source) => CopyError::Lost { source },
            };
            stopper.send_replace(true);
            failure.get_or_insert(failed);
        }
        if let Some(failure) = failure {
            // Removing trees takes time that async threads do not have.
            let removing = self.patience.run(Pulse::default(), move || drop(staged));
            if let Err(GivenUp::Stalled(error)) = removing.await {
                tracing::warn!(%error, "what was staged goes when the disk answers");
            }
            return Err(failure);
        }
        staged.sort_by_key(|layer| layer.index);
        Ok(staged)
    }
}
