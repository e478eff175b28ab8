//! What can go wrong with layers.

use crate::driver::DriverError;
use crate::layers::id::ParseLayerIdError;
use crate::records::RecordsError;
use crate::staging::StagingError;
use crate::unpack::UnpackError;

/// A layer operation failed. Nothing of it stays behind.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The records could not be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The content could not be handled.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The staging directory could not be used.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The tar could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A record holds an id that cannot be one.
    #[error(transparent)]
    Id(#[from] ParseLayerIdError),
    /// There is no such layer.
    #[error("layer {id} does not exist")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The layer to build on is not there.
    #[error("layer {id}: its parent {parent} does not exist")]
    UnknownParent {
        /// The new layer.
        id: String,
        /// The missing layer.
        parent: String,
    },
    /// The id is taken.
    #[error("layer {id} exists already")]
    Exists {
        /// The id.
        id: String,
    },
    /// A name is taken.
    #[error("layer name {name} is used by layer {id}")]
    NameInUse {
        /// The name.
        name: String,
        /// Its holder.
        id: String,
    },
    /// The layer cannot be deleted.
    #[error("layer {id} is in use by {user}")]
    InUse {
        /// The layer.
        id: String,
        /// Who uses it, with its kind: `image 1234…`.
        user: String,
    },
}
