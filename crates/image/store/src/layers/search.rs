//! Looking for file content in the layers that are there.

use crate::layers::LayerError;
use crate::tar_split::{FileContent, TarSplitReader};
use crate::unpack::clean_path;
use crate::{LayerId, Store};
use crioxide_files::{InRoot, InRootError};
use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Bytes of (compressed) tar-split that one search reads at most: that of some thousand megabytes of files.
const SEARCHED: u64 = 16 << 20;

/// A file of a layer, by the name that its tar had for it.
#[derive(Debug, Clone)]
pub struct LayerFile {
    layer: LayerId,
    path: PathBuf,
}

impl Store {
    /// Files of local layers, the newest first, that seem to have the wanted contents: sizes and checksums say so, which
    /// proves nothing. The search is given up after a while, with what it has found.
    pub fn find_contents(
        &self,
        wanted: &HashSet<FileContent>,
    ) -> Result<HashMap<FileContent, LayerFile>, LayerError> {
        let mut found = HashMap::new();
        let mut budget = SEARCHED;
        for record in self.layers()?.iter().rev() {
            if found.len() == wanted.len() {
                break;
            }
            let layer = LayerId::parse(&record.id)?;
            // A layer may go while it is looked at, and a damaged one is of no use.
            let Ok(file) = File::open(self.layout.tar_split(&layer)) else {
                continue;
            };
            let size = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
            let Some(left) = budget.checked_sub(size) else {
                continue;
            };
            budget = left;
            let mut entries = TarSplitReader::new(MultiGzDecoder::new(file.take(size)));
            while let Ok(Some((name, content))) = entries.next_file() {
                let Some(path) = clean_path(&name).filter(|_| wanted.contains(&content)) else {
                    continue;
                };
                let path = PathBuf::from(OsString::from_vec(path));
                let layer = layer.clone();
                found.entry(content).or_insert(LayerFile { layer, path });
            }
        }
        Ok(found)
    }

    /// Opens a file that was found.
    pub fn open_layer_file(&self, file: &LayerFile) -> Result<File, LayerFileError> {
        let root = self.driver.content(&file.layer)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(InRoot::open(&*root)?.open_file(&file.path, flags)?)
    }
}

/// A file of a layer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LayerFileError {
    /// The layer is not there any more.
    #[error(transparent)]
    Layer(#[from] crate::DriverError),
    /// The file is not there, or not a file.
    #[error(transparent)]
    File(#[from] InRootError),
}
