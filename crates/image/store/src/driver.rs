//! The seam between records and the ways of keeping layer content.

pub(crate) mod aufs;
pub(crate) mod btrfs;
mod content;
pub(crate) mod devicemapper;
pub(crate) mod home;
pub(crate) mod overlay;
mod quota;
mod tree;
pub(crate) mod vfs;

pub use self::content::LayerContent;

use crate::layers::id::is_hex_id;
use crate::{LayerId, LayerUsage, MountIds, MountOptions};
use std::fmt::Debug;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What a layer is for, which decides where a driver keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerUse {
    /// Read-only content of images.
    Image,
    /// The writable layer of a container.
    Container,
}

/// Where the permissions of a layer's root directory come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootMode {
    /// From the layer below.
    OfParent,
    /// The layer's own tar set them.
    Own,
}

/// Keeps the content of layers. All methods are safe to call from several threads for different layers.
pub(crate) trait Driver: Debug + Send + Sync {
    /// Makes an empty layer in the new directory `staged`, outside any lock.
    fn prepare(&self, staged: &Path, layer_use: LayerUse) -> Result<(), DriverError>;

    /// Puts a prepared layer on top of `parent`, whose content must be there.
    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError>;

    /// Gives the root of a prepared layer to whom `parent`'s has, as the user namespace of `ids` sees it.
    fn own_root(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        ids: &MountIds,
    ) -> Result<(), DriverError>;

    /// Gives the files of a stacked layer an SELinux label, where mounting it cannot.
    fn label(&self, staged: &Path, label: &str) -> Result<(), DriverError>;

    /// Where the content of a prepared layer is written to.
    fn staged_content(&self, staged: &Path) -> PathBuf;

    /// A directory on the file system of the layers where prepared layers may be made.
    fn staging_home(&self, layer_use: LayerUse) -> PathBuf;

    /// Makes the prepared layer the layer `id`. What was there under that id without a record is removed first.
    fn install(&self, staged: &Path, id: &LayerId, layer_use: LayerUse) -> Result<(), DriverError>;

    /// Makes durable what installing layers of images did after they were synced. Called once, before their records.
    fn flush(&self, installed: &[LayerId]) -> Result<(), DriverError>;

    /// Moves everything of layer `id` into the directory `trash`; a layer that is not there is no error.
    fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError>;

    /// The directory with the content that layer `id` itself adds, or all it shows where a driver does not know that.
    fn content(&self, id: &LayerId) -> Result<LayerContent, DriverError>;

    /// What layer `id` has, where the file system keeps count of it; `None` where it must be walked.
    fn counted_usage(&self, _id: &LayerId) -> Result<Option<LayerUsage>, DriverError> {
        Ok(None)
    }

    /// Where layer `id` is seen whole once it is mounted.
    fn mount_path(&self, id: &LayerId) -> PathBuf;

    /// Mounts layer `id` at its mount path.
    fn mount(&self, id: &LayerId, options: &MountOptions) -> Result<(), DriverError> {
        self.mount_at(id, &self.mount_path(id), options)
    }

    /// Mounts layer `id` at a directory of the caller's, who unmounts it.
    fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError>;

    /// Undoes [`Driver::mount`]; a layer that is not mounted is no error.
    fn unmount(&self, id: &LayerId) -> Result<(), DriverError>;

    /// Ids of all layers with content in the own store.
    fn list(&self) -> Result<Vec<LayerId>, DriverError>;

    /// Removes what belongs to no layer. Called while nobody makes or deletes one.
    fn remove_strays(&self) -> Result<(), DriverError>;

    /// What is wrong with the driver's own files of layer `id`, nothing if empty.
    fn examine(&self, id: &LayerId) -> Vec<String>;

    /// Gives back what the driver holds outside of layers, such as mounts of its home.
    fn shut_down(&self) -> Result<(), DriverError>;
}

/// A driver could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A system call failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A layer has more layers below than the kernel can stack.
    #[error("layer {id} has {depth} layers below it: overlayfs can stack 500 at most")]
    TooDeep {
        /// The layer.
        id: String,
        /// Number of layers below.
        depth: usize,
    },
    /// A layer below is not there.
    #[error("layer {id}: the layer below, {lower}, is missing")]
    MissingLower {
        /// The layer.
        id: String,
        /// What its `lower` file names.
        lower: String,
    },
    /// A layer's directory has not got the files it must have.
    #[error("layer {id}: {problem}")]
    Damaged {
        /// The layer.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// The store is not where the driver can work.
    #[error("storage driver {driver}: {path} is on another file system")]
    FileSystem {
        /// The driver.
        driver: &'static str,
        /// The root of the store.
        path: PathBuf,
    },
    /// The store cannot be used with this driver.
    #[error("storage driver {driver}: {problem}")]
    Unusable {
        /// The driver.
        driver: &'static str,
        /// Why not.
        problem: String,
    },
    /// Layers cannot be limited where they are.
    #[error("limit layers in {path} by project quotas: {problem}")]
    NoProjectQuotas {
        /// The driver's home.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The caller asked for an option that the driver does not have.
    #[error("mount layer {id}: option `{option}` is not supported")]
    MountOption {
        /// The layer.
        id: String,
        /// The option.
        option: String,
    },
}

/// Moves a new layer to its place.
fn move_in(new: &Path, place: &Path) -> Result<(), DriverError> {
    match fs::rename(new, place) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            ) =>
        {
            // A leftover without a record: nobody can be using it.
            fs::remove_dir_all(place)
                .map_err(|error| DriverError::io("remove the leftover", place, error))?;
            fs::rename(new, place)
        }
        other => other,
    }
    .map_err(|error| DriverError::io("move the new layer to", place, error))
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), DriverError> {
    fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| DriverError::io("sync", path, error))
}

/// Moves a layer to `trash`; one that is not there is no error.
fn move_away(layer: &Path, trash: &Path) -> Result<(), DriverError> {
    let moved = match fs::rename(layer, trash) {
        // The image store is on another mount than the trash.
        Err(error) if error.kind() == ErrorKind::CrossesDevices => fs::remove_dir_all(layer),
        other => other,
    };
    accept_missing(moved).map_err(|error| DriverError::io("move away", layer, error))
}

fn accept_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The layers that have a directory in `home`.
fn layers_in(home: &Path) -> Result<Vec<LayerId>, DriverError> {
    let fail = |error| DriverError::io("list", home, error);
    let mut layers = Vec::new();
    for entry in fs::read_dir(home).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        layers.extend(
            name.to_str()
                .filter(|name| is_hex_id(name))
                .and_then(|name| LayerId::parse(name).ok()),
        );
    }
    Ok(layers)
}

impl DriverError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}
