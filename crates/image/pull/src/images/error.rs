//! Why a question about images has no answer.

/// Why a question about images has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The name is empty.
    #[error("no image specified")]
    NoName,
    /// The name cannot be one.
    #[error("look up image `{name}`")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        source: crioxide_names::ParseReferenceError,
    },
    /// The store cannot be read or changed, or the image is in use.
    #[error(transparent)]
    Store(#[from] crioxide_store::ImageError),
    /// The artifact store cannot be read or changed.
    #[error(transparent)]
    Artifacts(#[from] crate::artifacts::ArtifactStoreError),
    /// An image in the store is not whole.
    #[error("image `{id}` in the store: {reason}")]
    Damaged {
        /// The image.
        id: String,
        /// What is wrong.
        reason: String,
    },
}
