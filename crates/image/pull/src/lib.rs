//! Pull and load: resolve, verify, fetch, unpack, commit.
//!
//! [`Puller`] brings images from registries and files into the store. Layers are fetched and unpacked in parallel
//! outside the store; an image is recorded when all of it is verified and durable, and not at all otherwise.
//! [`Images`] answers what a container runtime asks about the images that are there.
#![forbid(unsafe_code)]

mod artifacts;
mod config;
mod copy;
mod error;
mod images;
mod jobs;
mod layer;
mod load;
mod manifest;
mod platform;
mod progress;
mod puller;
mod source;
mod trust;

pub use artifacts::{ArtifactFile, ArtifactInfo, ArtifactStoreError, Artifacts};
pub use config::{ContainerDefaults, ImageConfig, RootFs};
pub use copy::{CopyError, StallError};
pub use error::{MirrorFailures, PullError};
pub use images::{ImageInfo, ImageUser, Images, ImagesError, PinnedImages, Removal, VerifyError};
pub use layer::LayerError;
pub use layer::encryption::{LoadKeysError, UnlockError};
pub use load::{FileImage, LoadRequest, LoadedImage};
pub use manifest::ManifestError;
pub use platform::Platform;
pub use progress::{LayerState, Progress, ProgressEvent};
pub use puller::{PolicySource, PullRequest, PullSettings, PulledImage, Puller};
pub use source::{ReadSourceError, SourceError};
