//! The last step: make everything durable, then record layers and image.

use crioxide_store::{BigData, LayerId, NewImage, NewLayer, Store};

use super::CopyError;
use super::patience::Pulse;
use super::resolve::ResolvedImage;
use crate::layer::{LayerError, StagedLayer};
use crate::manifest::Descriptor;
use crate::source::RawManifest;
use crate::trust::kept;

/// Records the staged layers on their parents, base layer first, and then the image.
///
/// `ids` are all of its layers, `staged` those that were missing. If the image cannot be recorded, the layers recorded
/// for it are taken away again, unless somebody else uses them already.
pub(super) fn commit(
    store: &Store,
    image: ResolvedImage,
    ids: &[LayerId],
    staged: Vec<StagedLayer>,
    names: Vec<String>,
    pulse: &Pulse,
) -> Result<(), CopyError> {
    if !staged.is_empty() {
        store.sync().map_err(|source| CopyError::Sync { source })?;
    }
    pulse.beat();
    let committed = commit_layers(store, &image.layers, ids, staged)?;
    pulse.beat();
    let recorded = record(store, image, ids.last(), names);
    if recorded.is_err() {
        undo(store, &committed);
    }
    recorded
}

/// Records what is missing; returns what of it nobody else recorded meanwhile.
fn commit_layers(
    store: &Store,
    blobs: &[Descriptor],
    ids: &[LayerId],
    staged: Vec<StagedLayer>,
) -> Result<Vec<LayerId>, CopyError> {
    let Some(first) = staged.first() else {
        return Ok(Vec::new());
    };
    let digest = blobs[first.index].digest.clone();
    let described = |layer: StagedLayer| {
        let blob = &blobs[layer.index];
        let parent = layer.index.checked_sub(1).map(|below| ids[below].clone());
        let mut new = NewLayer::unpacked(ids[layer.index].clone(), parent, layer.summary);
        // Of a blob that was not read whole nobody knows whether it is what its digest says.
        if let Some(compression) = layer.compression {
            new.compressed_digest = Some(blob.digest.clone());
            new.compressed_size = blob.size;
            new.compression = compression;
        }
        (layer.staging, new)
    };
    store
        .commit_layers(staged.into_iter().map(described).collect())
        .map_err(|source| {
            let source = Box::new(source);
            LayerError::Store { digest, source }.into()
        })
}

/// Config first, then manifests from the outermost to the one that is simply called `manifest`.
fn record(
    store: &Store,
    image: ResolvedImage,
    top_layer: Option<&LayerId>,
    names: Vec<String>,
) -> Result<(), CopyError> {
    let mut big_data = vec![BigData::new(
        image.config_digest.as_str(),
        image.config_bytes,
    )];
    let manifest = match image.instance {
        None => image.top,
        Some(instance) => {
            big_data.push(manifest_item(&image.top));
            instance
        }
    };
    big_data.push(manifest_item(&manifest));
    big_data.push(BigData {
        key: "manifest".to_owned(),
        bytes: manifest.bytes,
        digest: Some(manifest.digest),
    });
    let own = big_data.last().and_then(|item| item.digest.clone());
    let (metadata, kept) = match &own {
        Some(own) => kept::to_keep(own, &image.signatures),
        None => ("{}".to_owned(), Vec::new()),
    };
    big_data.extend(kept);
    let new = NewImage {
        id: image.id,
        names,
        layer: top_layer.cloned(),
        metadata,
        created: Some(image.config.created).filter(|created| !created.is_empty()),
        big_data,
    };
    store
        .create_image(new)
        .map(drop)
        .map_err(|source| CopyError::Store {
            source: Box::new(source),
        })
}

fn manifest_item(manifest: &RawManifest) -> BigData {
    BigData {
        key: format!("manifest-{}", manifest.digest),
        bytes: manifest.bytes.clone(),
        digest: Some(manifest.digest.clone()),
    }
}

/// Takes layers away that were recorded for an image that does not come, the top one first.
fn undo(store: &Store, committed: &[LayerId]) {
    for id in committed.iter().rev() {
        if let Err(error) = store.delete_layer(id) {
            tracing::debug!(layer = %id, %error, "layer stays, somebody else may use it");
        }
    }
}
