//! What a store is opened with.

mod aufs;
mod btrfs;
mod devicemapper;
mod entries;
mod overlay;
mod size;
mod vfs;

pub(crate) use self::aufs::AufsOptions;
pub(crate) use self::btrfs::BtrfsOptions;
pub(crate) use self::devicemapper::DevicemapperOptions;
pub(crate) use self::overlay::OverlayOptions;
pub(crate) use self::vfs::VfsOptions;

use std::borrow::Cow;
use std::path::PathBuf;

/// Where a store is and how it behaves.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Persistent data, usually `/var/lib/containers/storage`.
    pub graph_root: PathBuf,
    /// Data that ends with a reboot, usually `/run/containers/storage`.
    pub run_root: PathBuf,
    /// A second root for images and their layers; `None` keeps them below `graph_root`.
    pub image_store: Option<PathBuf>,
    /// Name of the storage driver: `overlay` (also `overlay2`), `btrfs`, `devicemapper`, `aufs` or `vfs`; empty takes the one
    /// that the store was made with, or overlay.
    pub driver: String,
    /// `<driver>.<key>=<value>` entries in the order of precedence: a later one wins.
    pub driver_options: Vec<String>,
    /// Roots of read-only stores that are searched after the own one.
    pub additional_image_stores: Vec<PathBuf>,
    /// Whether of a layer that says where its files are only those are fetched that no local layer has.
    pub partial_images: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            graph_root: "/var/lib/containers/storage".into(),
            run_root: "/run/containers/storage".into(),
            image_store: None,
            driver: String::new(),
            driver_options: Vec::new(),
            additional_image_stores: Vec::new(),
            partial_images: true,
        }
    }
}

/// An entry of `storage_option` that cannot be used.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("storage option `{option}`: {problem}")]
pub struct DriverOptionError {
    /// The entry as written.
    pub option: String,
    problem: Cow<'static, str>,
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
