//! What can go wrong with images.

use crate::LayerError;
use crate::layers::id::ParseLayerIdError;
use crate::records::RecordsError;
use std::path::PathBuf;

/// An image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The records could not be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A layer of the image could not be handled.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A record holds an id that cannot be one.
    #[error(transparent)]
    Id(#[from] ParseLayerIdError),
    /// No image has that id, name or digest.
    #[error("image {lookup} does not exist")]
    Unknown {
        /// What was looked for.
        lookup: String,
    },
    /// Several images have ids that start like that.
    #[error("image id prefix {lookup} is ambiguous")]
    Ambiguous {
        /// The prefix.
        lookup: String,
    },
    /// The top layer is not there.
    #[error("image {image}: its layer {layer} does not exist")]
    UnknownLayer {
        /// The image.
        image: String,
        /// The missing layer.
        layer: String,
    },
    /// The image exists with other content.
    #[error("image {image} exists with top layer {existing}, not {new}")]
    OtherLayer {
        /// The image.
        image: String,
        /// The top layer it has.
        existing: String,
        /// The top layer it should get.
        new: String,
    },
    /// A container was made from the image.
    #[error("image {image} is in use by container {container}")]
    InUse {
        /// The image.
        image: String,
        /// The container.
        container: String,
    },
    /// The image belongs to an additional store.
    #[error("image {image} is in a read-only store")]
    ReadOnly {
        /// The image.
        image: String,
    },
    /// A big data key cannot be a file name.
    #[error("image {image}: big data key `{key}` cannot be used as a file name")]
    BadKey {
        /// The image.
        image: String,
        /// The key.
        key: String,
    },
    /// The image has no such big data.
    #[error("image {image} has no big data `{key}`")]
    NoBigData {
        /// The image.
        image: String,
        /// The key.
        key: String,
    },
    /// Big data could not be read or written.
    #[error("{action} {path}")]
    BigData {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
