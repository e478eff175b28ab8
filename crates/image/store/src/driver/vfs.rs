//! The vfs driver: each layer is a whole file tree of its own, `dir/<id>`, that starts as a copy of the one below.
//!
//! It works on every file system and needs no kernel feature, at the price of a copy per layer (shared extents where the
//! file system can).

use super::tree::{ADDED, Homes, TreeDriver, WHOLE, copy_tree, make_dir, merge};
use super::{DriverError, LayerUse, RootMode};
use crate::LayerId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Below a home: all layers.
const LAYERS: &str = "dir";

/// Trees below one or two homes.
#[derive(Debug)]
pub(crate) struct Vfs(Homes);

impl Vfs {
    /// Makes the homes if they are not there.
    pub(crate) fn open(
        home: PathBuf,
        image_home: PathBuf,
        foreign: Vec<PathBuf>,
    ) -> Result<Self, DriverError> {
        let homes = Homes {
            home,
            image_home,
            foreign,
            folder: LAYERS,
        };
        homes.make()?;
        Ok(Self(homes))
    }
}

impl TreeDriver for Vfs {
    fn homes(&self) -> &Homes {
        &self.0
    }

    fn prepare(&self, staged: &Path, _layer_use: LayerUse) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        make_dir(&staged.join(ADDED), 0o555)
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let (added, whole) = (staged.join(ADDED), staged.join(WHOLE));
        make_dir(&whole, 0o700)?;
        let fail = |action| {
            let whole = whole.clone();
            move |error: io::Error| DriverError::io(action, whole, error)
        };
        if let Some(parent) = parent {
            let below = self.0.content(parent)?;
            copy_tree(&below, &whole).map_err(fail("copy the layer below to"))?;
        }
        // Without a layer below there is nobody else to take the root's metadata from.
        let take_root = root == RootMode::Own || parent.is_none();
        merge(&added, &whole, take_root).map_err(fail("apply the layer's changes to"))?;
        fs::remove_dir_all(&added).map_err(|error| DriverError::io("remove", added, error))
    }
}
