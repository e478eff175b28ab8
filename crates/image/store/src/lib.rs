//! The containers/storage layout: images, layers and containers on disk, shared with podman, buildah, skopeo and CRI-O.
//!
//! Everything is a set of JSON records behind file locks (`records`), content kept by a driver, and operations of
//! [`Store`] that keep the two in step. The order on disk makes every operation crash-only: new content is made in a
//! staging directory and renamed in before its record is written; a record is dropped before its content is moved away.
//! What a crash leaves is content without a record, which opening the store or [`Store::garbage_collect`] removes.
//!
//! The API is synchronous and safe from any number of threads. Slow work (unpacking, removing trees) holds no lock.
#![forbid(unsafe_code)]

mod containers;
mod driver;
mod images;
mod layers;
mod mounts;
mod record;
mod records;
mod staging;
mod store;
mod tar;
mod tar_split;
mod unpack;
mod upkeep;

pub use containers::{ContainerError, NewContainer};
pub use driver::{DriverError, LayerContent};
pub use images::{BigData, ImageError, NewImage};
pub use layers::id::{LayerId, ParseLayerIdError};
pub use layers::{LayerError, LayerFile, LayerFileError, LayerStaging, NewLayer};
pub use mounts::{
    MountAccess, MountError, MountHold, MountIds, MountOptions, UnmountForce, Volatility,
};
pub use record::big_data::big_data_file_name;
pub use record::{
    BigDataDigests, BigDataSizes, Compression, ContainerRecord, IdRange, ImageRecord, LayerRecord,
    MountRecord, UnknownFields,
};
pub use records::RecordsError;
pub use staging::StagingError;
pub use store::conf::{StorageConf, StorageConfError};
pub use store::options::{DriverOptionError, StoreOptions};
pub use store::{OpenError, Store};
pub use tar::TarError;
pub use tar_split::{
    FileContent, LayerTar, LayerTarError, TarSplitEntry, TarSplitError, TarSplitReader, content_crc,
};
pub use unpack::{UnpackError, UnpackSummary, apply_changes};
pub use upkeep::check::{CheckDepth, CheckError, Finding};
pub use upkeep::garbage::{CollectError, Collected};
pub use upkeep::usage::{FilesystemUsage, LayerUsage, UsageError};
