//! Signatures beside an image in the store, as containers/image keeps them.

use std::collections::BTreeMap;

use crioxide_names::Digest;
use crioxide_registry::Signature;
use crioxide_store::{BigData, ImageError, ImageRecord, Store};
use serde::{Deserialize, Serialize};

/// The key of those of the image's own manifest.
const OWN: &str = "signatures";

/// The image record's `metadata`: one after the other in one file, signatures need their sizes.
#[derive(Serialize, Deserialize, Default)]
struct Sizes {
    #[serde(
        rename = "signature-sizes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    own: Vec<usize>,
    #[serde(
        rename = "signatures-sizes",
        default,
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    by_manifest: BTreeMap<String, Vec<usize>>,
}

/// The record's metadata and the files for the signatures of `manifest`.
pub(crate) fn to_keep(manifest: &Digest, signatures: &[Signature]) -> (String, Vec<BigData>) {
    if signatures.is_empty() {
        return ("{}".to_owned(), Vec::new());
    }
    let blobs: Vec<Vec<u8>> = signatures.iter().map(Signature::to_blob).collect();
    let own: Vec<usize> = blobs.iter().map(Vec::len).collect();
    let sizes = Sizes {
        by_manifest: [(manifest.to_string(), own.clone())].into(),
        own,
    };
    let metadata = serde_json::to_string(&sizes).unwrap_or_else(|_| "{}".to_owned());
    let all = blobs.concat();
    let by_manifest = format!("signature-{}", manifest.hex());
    let files = vec![
        BigData::new(OWN, all.clone()),
        BigData::new(&by_manifest, all),
    ];
    (metadata, files)
}

/// The signatures that an image of the store has for its own manifest.
pub(crate) fn kept(store: &Store, record: &ImageRecord) -> Result<Vec<Signature>, ImageError> {
    let sizes: Sizes = serde_json::from_str(&record.metadata).unwrap_or_default();
    let by_manifest = sizes.by_manifest.get(&record.digest);
    let digest = Digest::parse(&record.digest).ok();
    let (key, sizes) = match (by_manifest, digest) {
        (Some(sizes), Some(digest)) => (format!("signature-{}", digest.hex()), sizes.clone()),
        _ => (OWN.to_owned(), sizes.own),
    };
    if sizes.is_empty() || !record.big_data_names.contains(&key) {
        return Ok(Vec::new());
    }
    let all = store.image_big_data(&record.id, &key)?;
    let mut rest = all.as_slice();
    let mut signatures = Vec::new();
    for size in sizes {
        // A file that is too short holds no more.
        let Some((blob, after)) = rest.split_at_checked(size) else {
            break;
        };
        signatures.extend(Signature::from_blob(blob));
        rest = after;
    }
    Ok(signatures)
}
