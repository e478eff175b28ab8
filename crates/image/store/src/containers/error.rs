//! What can go wrong with containers.

use crate::LayerError;
use crate::driver::DriverError;
use crate::layers::id::ParseLayerIdError;
use crate::records::RecordsError;
use crate::staging::StagingError;
use std::path::PathBuf;

/// A container operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The records could not be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The layer's content could not be handled.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The staging directory could not be used.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The layer could not be handled.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A record holds a layer id that cannot be one.
    #[error(transparent)]
    LayerId(#[from] ParseLayerIdError),
    /// There is no such container.
    #[error("container {id} does not exist")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The id is taken.
    #[error("container {id} exists already")]
    Exists {
        /// The id.
        id: String,
    },
    /// A name is taken.
    #[error("container name {name} is used by {id}")]
    NameInUse {
        /// The name.
        name: String,
        /// Its holder.
        id: String,
    },
    /// The image's layer is not there.
    #[error("container {id}: the layer to build on, {parent}, does not exist")]
    UnknownParent {
        /// The container.
        id: String,
        /// The missing layer.
        parent: String,
    },
    /// The id cannot be a directory name.
    #[error("`{id}` cannot be a container id")]
    BadId {
        /// The id, cut to a printable length.
        id: String,
    },
    /// A directory of the container could not be made or removed.
    #[error("{action} {path}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
