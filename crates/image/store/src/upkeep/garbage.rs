//! Removing content that no record mentions.

use crate::layers::Trash;
use crate::layers::id::is_hex_id;
use crate::records::RecordsError;
use crate::staging::{StagingError, remove_tree};
use crate::{DriverError, LayerError, Store};
use std::path::{Path, PathBuf};

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Directories of containers and images, and layer files.
    pub paths: Vec<PathBuf>,
    /// Ids of layers.
    pub layers: Vec<String>,
}

/// Garbage could not be collected. What was removed before stays removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The records could not be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// A layer could not be removed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layers could not be listed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A directory could not be removed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A directory could not be listed.
    #[error("list {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Store {
    /// Removes content without a record, as is left by a crash, in particular by one that lost volatile records, and
    /// writable layers without their container.
    ///
    /// Call it once after opening the store and before making containers.
    pub fn garbage_collect(&self) -> Result<Collected, CollectError> {
        let mut collected = Collected {
            layers: self.delete_orphaned_layers()?,
            ..Collected::default()
        };
        let mut trash = Trash::default();
        {
            let layers = self.layers.write()?;
            for id in self.driver.list()? {
                if layers.table().get(id.as_str()).is_none() {
                    tracing::info!(layer = %id, "removing a layer without a record");
                    trash.absorb(self.discard_layer(&id)?);
                    collected.layers.push(id.to_string());
                }
            }
            self.driver.remove_strays()?;
            let known = |id: &str| layers.table().get(id).is_some();
            remove_unknown(&self.layout.layers(), known, &mut collected)?;
        }
        self.remove_later(trash);
        {
            let images = self.images.write()?;
            remove_unknown(
                &self.layout.images(),
                |id| images.table().get(id).is_some(),
                &mut collected,
            )?;
        }
        let containers = self.containers.write()?;
        for directory in [self.layout.containers(), self.layout.run_containers()] {
            remove_unknown(
                &directory,
                |id| containers.table().get(id).is_some(),
                &mut collected,
            )?;
        }
        Ok(collected)
    }
}

/// Removes entries named by an id, alone or with something behind a dot, that is not known.
fn remove_unknown(
    directory: &Path,
    known: impl Fn(&str) -> bool,
    collected: &mut Collected,
) -> Result<(), CollectError> {
    let fail = |source| CollectError::List {
        path: directory.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(fail)?,
    };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.split('.').next())
            .unwrap_or_default();
        if is_hex_id(id) && !known(id) {
            tracing::info!(path = %entry.path().display(), "removing what no record mentions");
            remove_tree(&entry.path())?;
            collected.paths.push(entry.path());
        }
    }
    Ok(())
}
