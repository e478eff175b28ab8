//! Partial pulls of zstd:chunked layers.
//!
//! Such a blob has a table of contents, which says where each file is in it, and a tar-split, which holds all of the tar but
//! the files' content. Files that a local layer has are taken from there, the others are fetched by ranges, and the tar is put
//! together again as it was. It goes the way of every other tar from there: what its files are is proven by its digest, which
//! the image's config gives, so neither the table nor a local file has to be believed.

mod assemble;
mod plan;
mod toc;

use std::ops::Range;

use bytes::Bytes;
use crioxide_registry::ContentHasher;
use futures_util::{StreamExt, TryStreamExt, stream};

use self::assemble::Assembled;
use self::plan::Plan;
use self::toc::{Places, Toc, TocError};
use super::pipe::{PipeWriter, pipe};
use super::{LayerError, LayerTask, Unpacked, unpack_tar};
use crate::progress::LayerState;
use crate::source::SourceError;

/// A smaller blob is there sooner than the answers to several questions (bytes).
const SMALL: u64 = 256 << 10;
/// Longest part that is asked for at once (bytes), and how many are under way: all of them are held in memory.
const PART: u64 = 4 << 20;
const PARTS: usize = 4;

/// Why a layer has to be fetched whole.
#[derive(Debug, thiserror::Error)]
enum NotPartial {
    #[error("the registry knows no ranges")]
    NoRanges,
    #[error("{missing} of {size} bytes would have to be fetched")]
    NothingSaved { missing: u64, size: u64 },
    #[error(transparent)]
    Toc(#[from] TocError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Unpacks the layer from what is there and the rest of the blob. `None`: it has to be fetched whole.
pub(super) async fn fetch(task: &LayerTask) -> Result<Option<Unpacked>, LayerError> {
    if !task.store.partial_images()
        || task.diff_id.is_none()
        || task.key.is_some()
        || task.blob.size < SMALL
    {
        return Ok(None);
    }
    let Some(places) = Places::of(&task.blob) else {
        return Ok(None);
    };
    let digest = task.blob.digest.as_str();
    match attempt(task, places).await {
        Ok(unpacked) => Ok(Some(unpacked)),
        Err(NotPartial::Layer(LayerError::Stopped { digest })) => {
            Err(LayerError::Stopped { digest })
        }
        Err(reason) => {
            let reason = crate::error::chain(&reason);
            tracing::info!(layer = digest, reason, "fetching the layer whole");
            Ok(None)
        }
    }
}

async fn attempt(
    task: &LayerTask,
    places: Result<Places, TocError>,
) -> Result<Unpacked, NotPartial> {
    let (plan, tar_split) = tokio::select! {
        prepared = prepare(task, places?) => prepared?,
        () = task.stopped() => return Err(task.stop_error().into()),
    };
    let total = task.blob.size;
    let missing = plan.missing();
    tracing::info!(
        layer = task.blob.digest.as_str(),
        fetched = missing,
        size = total,
        files = plan.reused_files,
        reused = plan.reused_bytes,
        "fetching a part of the layer"
    );
    let (writer, reader) = pipe(&task.pulse);
    let ranges = plan.ranges.clone();
    let tar = Assembled::new(tar_split, plan, reader, task.store.clone())
        .map_err(TocError::Decompress)?;
    let feeding = feed(task, ranges, total - missing.min(total), writer);
    let store = task.store.clone();
    let (digest, pulse) = (task.blob.digest.clone(), task.pulse.clone());
    let unpacking = move || unpack_tar(&store, &digest, tar, pulse);
    let unpacked = task.unpack_while(feeding, unpacking).await?;
    Ok(task.proven(unpacked).await?)
}

/// Fetches the table and the tar-split, and finds out which files are missing.
async fn prepare(task: &LayerTask, places: Places) -> Result<(Plan, Bytes), NotPartial> {
    let (toc, tar_split) = tokio::try_join!(
        fetch_part(task, places.toc.clone()),
        fetch_part(task, places.tar_split.clone())
    )?;
    let (toc, tar_split) = (toc.concat(), Bytes::from(tar_split.concat()));
    let own = toc.len() as u64 + tar_split.len() as u64;
    let (store, split) = (task.store.clone(), tar_split.clone());
    let planning = task.patience.run(task.pulse.clone(), move || {
        let toc = Toc::parse(&toc, &split, &places)?;
        Plan::make(toc, &split, &store)
    });
    let plan = planning.await.map_err(|reason| task.given_up(reason))??;
    let (missing, size) = (plan.missing() + own, task.blob.size);
    // Less than a tenth is not worth the many questions.
    if missing > size - size / 10 {
        return Err(NotPartial::NothingSaved { missing, size });
    }
    Ok((plan, tar_split))
}

/// Fetches the ranges, some at once, and hands them on in order.
async fn feed(
    task: &LayerTask,
    ranges: Vec<Range<u64>>,
    mut done: u64,
    writer: PipeWriter,
) -> Result<(), Option<LayerError>> {
    let parts = ranges.into_iter().flat_map(|range| {
        let end = range.end;
        let starts = range.step_by(usize::try_from(PART).unwrap_or(usize::MAX));
        starts.map(move |start| start..end.min(start + PART))
    });
    let mut parts = stream::iter(parts)
        .map(|part| fetch_part(task, part))
        .buffered(PARTS);
    while let Some(pieces) = parts.try_next().await.map_err(|error| match error {
        NotPartial::Layer(error) => Some(error),
        NotPartial::Source(source) => Some(task.fetch_failed(source)),
        // What gave ranges before gives them no more.
        other => Some(LayerError::Partial {
            digest: task.blob.digest.clone(),
            reason: other.to_string(),
        }),
    })? {
        for piece in pieces {
            done += piece.len() as u64;
            writer.write(piece).await.map_err(|_| None)?;
        }
        task.report(done, LayerState::Fetching);
    }
    writer.finish().await.map_err(|_| None)
}

async fn fetch_part(task: &LayerTask, part: Range<u64>) -> Result<Vec<Bytes>, NotPartial> {
    let blob = task.source.blob_part(&task.blob, part).await?;
    let mut blob = blob.ok_or(NotPartial::NoRanges)?;
    let mut pieces = Vec::new();
    while let Some(piece) = blob.next().await? {
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Whether `bytes` have that digest, given as text.
fn has_digest(bytes: &[u8], digest: &str) -> bool {
    crioxide_names::Digest::parse(digest)
        .is_ok_and(|digest| ContentHasher::digest_of(digest.algorithm(), bytes) == digest)
}
