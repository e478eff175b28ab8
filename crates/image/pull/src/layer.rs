//! One layer on its way: fetched and hashed on an async task, decompressed and unpacked on a thread beside it.
//!
//! The unpacking side sees the end of the blob only after its size and digest were found right, so a staged layer is a
//! verified one.

pub(crate) mod encryption;
pub(crate) mod locks;

mod chunked;
mod decompress;
mod error;
mod pipe;

use std::io::Read;
use std::pin::pin;
use std::sync::Arc;

use crioxide_names::Digest;
use crioxide_registry::ContentHasher;
use crioxide_store::{Compression, LayerStaging, Store, UnpackSummary};
use tokio::sync::watch;

pub(crate) use decompress::{decompress, detect};
pub use error::LayerError;

use crate::copy::patience::{Beating, GivenUp, Patience, Pulse};
use crate::manifest::Descriptor;
use crate::progress::{Audience, LayerState, ProgressEvent};
use crate::source::{Blob, Source};
use encryption::{DecryptingReader, LayerKey};
use pipe::{PipeReader, PipeWriter, pipe};

/// Progress is reported after about this many bytes.
const REPORT_EVERY: u64 = 256 << 10;

/// A layer to fetch.
pub(crate) struct LayerTask {
    pub(crate) store: Arc<Store>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) audience: Arc<Audience>,
    /// Position, base layer first.
    pub(crate) index: usize,
    pub(crate) blob: Descriptor,
    /// What decrypts it, if it is encrypted.
    pub(crate) key: Option<LayerKey>,
    /// Digest that its tar must have, if that is known.
    pub(crate) diff_id: Option<Digest>,
    /// Says when another layer of the image has failed.
    pub(crate) stop: StopSignal,
    /// With the store's disk.
    pub(crate) patience: Arc<Patience>,
    /// Of the thread that unpacks.
    pub(crate) pulse: Pulse,
}

/// Becomes true when the work is in vain.
pub(crate) type StopSignal = watch::Receiver<bool>;

/// A layer outside the store, complete and verified. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct StagedLayer {
    pub(crate) index: usize,
    pub(crate) staging: LayerStaging,
    pub(crate) summary: UnpackSummary,
    /// How its blob was compressed; `None` if only parts of it were read.
    pub(crate) compression: Option<Compression>,
}

impl LayerTask {
    /// Fetches, verifies and unpacks the layer. Returns only when its thread has ended, so that after a failure nothing
    /// is left; or when its disk does not answer, so that the thread cannot end.
    pub(crate) async fn run(self) -> Result<StagedLayer, LayerError> {
        self.report(0, LayerState::Fetching);
        let there = match self.take_tar().await? {
            Some(unpacked) => Some(unpacked),
            None => chunked::fetch(&self).await?,
        };
        let (unpacked, compression) = match there {
            Some(unpacked) => (unpacked, None),
            None => {
                let (unpacked, compression) = self.fetch_whole().await?;
                (self.proven(unpacked).await?, compression)
            }
        };
        self.report(self.blob.size, LayerState::Unpacked);
        let (staging, summary) = unpacked;
        Ok(StagedLayer {
            index: self.index,
            staging,
            summary,
            compression,
        })
    }

    /// The layer of a source that has it as a tar.
    async fn take_tar(&self) -> Result<Option<Unpacked>, LayerError> {
        let Some(diff_id) = &self.diff_id else {
            return Ok(None);
        };
        let tar = self.source.layer_tar(diff_id).await;
        let Some(tar) = tar.map_err(|source| self.fetch_failed(source))? else {
            return Ok(None);
        };
        let (store, digest) = (self.store.clone(), self.blob.digest.clone());
        let pulse = self.pulse.clone();
        let unpacking = move || unpack_tar(&store, &digest, tar, pulse);
        let unpacked = self.unpack_while(async { Ok(()) }, unpacking).await?;
        Ok(Some(self.proven(unpacked).await?))
    }

    async fn fetch_whole(&self) -> Result<(Unpacked, Option<Compression>), LayerError> {
        let blob = tokio::select! {
            blob = self.source.blob(&self.blob) => blob.map_err(|source| self.fetch_failed(source))?,
            () = self.stopped() => return Err(self.stop_error()),
        };
        let (writer, reader) = pipe(&self.pulse);
        let (store, digest) = (self.store.clone(), self.blob.digest.clone());
        let (key, pulse) = (self.key.clone(), self.pulse.clone());
        let unpacking = move || match key {
            None => unpack(&store, &digest, reader, pulse),
            Some(key) => unpack_encrypted(&store, &digest, reader, &key, pulse),
        };
        self.unpack_while(self.feed(blob, writer), unpacking).await
    }

    /// Unpacks on a thread while `feeding` gives it what it reads. Returns when both have ended, or the disk does not answer.
    async fn unpack_while<T: Send + 'static>(
        &self,
        feeding: impl Future<Output = Result<(), Option<LayerError>>>,
        unpacking: impl FnOnce() -> Result<T, LayerError> + Send + 'static,
    ) -> Result<T, LayerError> {
        let feeding = async {
            tokio::select! {
                fed = feeding => fed,
                () = self.stopped() => Err(Some(self.stop_error())),
            }
        };
        let unpacking = self.patience.run(self.pulse.clone(), unpacking);
        let (mut feeding, mut unpacking) = (pin!(feeding), pin!(unpacking));
        let (fed, unpacked) = tokio::select! {
            biased;
            unpacked = &mut unpacking => {
                let unpacked = unpacked.map_err(|reason| self.given_up(reason))?;
                (feeding.await, unpacked)
            }
            fed = &mut feeding => {
                // What went wrong there says more than what follows from it.
                match (unpacking.await, fed) {
                    (Err(_), Err(Some(error))) => return Err(error),
                    (unpacked, fed) => (fed, unpacked.map_err(|reason| self.given_up(reason))?),
                }
            }
        };
        // When both failed, the reader failed because the feeder did, unless the feeder only lost its reader.
        match (fed, unpacked) {
            (Err(Some(error)), _) | (_, Err(error)) => Err(error),
            (Ok(()), Ok(unpacked)) => Ok(unpacked),
            (Err(None), Ok(_)) => {
                let source =
                    std::io::Error::other("the compressed content ends before the blob does");
                Err(LayerError::Decompress {
                    digest: self.blob.digest.clone(),
                    source,
                })
            }
        }
    }

    /// What was unpacked, if its tar is the one that the image's config says.
    async fn proven(&self, (staging, summary): Unpacked) -> Result<Unpacked, LayerError> {
        let Some(wanted) = self.diff_id.as_ref().filter(|id| **id != summary.diff_id) else {
            return Ok((staging, summary));
        };
        self.patience
            .run(self.pulse.clone(), move || drop(staging))
            .await
            .ok();
        Err(LayerError::WrongDiffId {
            digest: self.blob.digest.clone(),
            wanted: wanted.clone(),
            actual: summary.diff_id,
        })
    }

    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left to say so; then the whole task is being dropped.
            std::future::pending::<()>().await;
        }
    }

    fn given_up(&self, reason: GivenUp) -> LayerError {
        let digest = self.blob.digest.clone();
        match reason {
            GivenUp::Stalled(source) => LayerError::Stalled { digest, source },
            GivenUp::Lost(source) => LayerError::Lost { digest, source },
        }
    }

    fn stop_error(&self) -> LayerError {
        LayerError::Stopped {
            digest: self.blob.digest.clone(),
        }
    }

    /// `Err(None)`: nobody reads any more.
    async fn feed(&self, mut blob: Blob, writer: PipeWriter) -> Result<(), Option<LayerError>> {
        let mut hasher = ContentHasher::new(self.blob.digest.algorithm());
        let (mut done, mut reported) = (0, 0);
        while let Some(piece) = blob
            .next()
            .await
            .map_err(|source| Some(self.fetch_failed(source)))?
        {
            hasher.update(&piece);
            done += piece.len() as u64;
            if done > self.blob.size {
                return Err(Some(self.wrong_size(done)));
            }
            writer.write(piece).await.map_err(|_| None)?;
            if done - reported >= REPORT_EVERY {
                reported = done;
                self.report(done, LayerState::Fetching);
            }
        }
        if done != self.blob.size {
            return Err(Some(self.wrong_size(done)));
        }
        let actual = hasher.finish();
        if actual != self.blob.digest {
            return Err(Some(LayerError::WrongDigest {
                digest: self.blob.digest.clone(),
                actual,
            }));
        }
        writer.finish().await.map_err(|_| None)
    }

    fn report(&self, done: u64, state: LayerState) {
        self.audience.report(&ProgressEvent::Layer {
            index: self.index,
            digest: self.blob.digest.clone(),
            done,
            total: self.blob.size,
            state,
        });
    }

    fn fetch_failed(&self, source: crate::source::SourceError) -> LayerError {
        LayerError::Fetch {
            digest: self.blob.digest.clone(),
            source,
        }
    }

    fn wrong_size(&self, received: u64) -> LayerError {
        LayerError::WrongSize {
            digest: self.blob.digest.clone(),
            wanted: self.blob.size,
            received,
        }
    }
}

type Unpacked = (LayerStaging, UnpackSummary);

fn unpack(
    store: &Store,
    digest: &Digest,
    reader: impl Read + Send,
    pulse: Pulse,
) -> Result<(Unpacked, Option<Compression>), LayerError> {
    let (compression, tar) = decompress(reader).map_err(|source| LayerError::Decompress {
        digest: digest.clone(),
        source,
    })?;
    Ok((unpack_tar(store, digest, tar, pulse)?, Some(compression)))
}

fn unpack_encrypted(
    store: &Store,
    digest: &Digest,
    reader: PipeReader,
    key: &LayerKey,
    pulse: Pulse,
) -> Result<(Unpacked, Option<Compression>), LayerError> {
    let failed = |source| LayerError::Decrypt {
        digest: digest.clone(),
        source,
    };
    let mut reader = DecryptingReader::new(reader, key).map_err(failed)?;
    let unpacked = unpack(store, digest, &mut reader, pulse)?;
    reader.finish().map_err(failed)?;
    Ok(unpacked)
}

fn unpack_tar(
    store: &Store,
    digest: &Digest,
    tar: impl Read + Send,
    pulse: Pulse,
) -> Result<Unpacked, LayerError> {
    let store_failed = |source| LayerError::Store {
        digest: digest.clone(),
        source: Box::new(source),
    };
    let mut staging = store.stage_layer().map_err(store_failed)?;
    let tar = Beating { inner: tar, pulse };
    let summary = staging.unpack(tar).map_err(store_failed)?;
    Ok((staging, summary))
}
