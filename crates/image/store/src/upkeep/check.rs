//! Looking for damage.

use crate::records::RecordsError;
use crate::{ImageError, LayerId, LayerRecord, Store};
use sha2::{Digest as _, Sha256};
use std::io::Read;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A layer is damaged: it must be deleted and pulled again.
    Layer {
        /// Its id.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// An image lacks something, a layer included.
    Image {
        /// Its id.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// A container lacks something.
    Container {
        /// Its id.
        id: String,
        /// What is wrong.
        problem: String,
    },
}

/// The store could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The records could not be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Files and links are there; milliseconds.
    Presence,
    /// Every image layer is read and compared with its digest.
    Digests,
}

impl Store {
    /// Examines all records and their content, changing nothing.
    pub fn check(&self, depth: CheckDepth) -> Result<Vec<Finding>, CheckError> {
        let mut findings = Vec::new();
        let layers = self.layers.read()?;
        for layer in layers.iter() {
            for problem in self.layer_problems(layer, depth) {
                findings.push(Finding::Layer {
                    id: layer.id.clone(),
                    problem,
                });
            }
            if !layer.parent.is_empty() && !self.has_layer(&layers, &layer.parent)? {
                let problem = format!("its parent {} has no record", layer.parent);
                findings.push(Finding::Layer {
                    id: layer.id.clone(),
                    problem,
                });
            }
        }
        for image in self.images.read()?.iter() {
            for top in image.top_layers() {
                if !self.has_layer(&layers, top)? {
                    let problem = format!("its layer {top} has no record");
                    findings.push(Finding::Image {
                        id: image.id.clone(),
                        problem,
                    });
                }
            }
            for (key, size) in &image.big_data_sizes {
                let problem = match self.image_big_data(&image.id, key) {
                    Ok(bytes) if i64::try_from(bytes.len()) == Ok(*size) => continue,
                    Ok(bytes) => format!(
                        "big data `{key}` has {} bytes instead of {size}",
                        bytes.len()
                    ),
                    Err(ImageError::BigData { path, source, .. }) => {
                        format!("{}: {source}", path.display())
                    }
                    Err(error) => error.to_string(),
                };
                findings.push(Finding::Image {
                    id: image.id.clone(),
                    problem,
                });
            }
        }
        for container in self.containers.read()?.iter() {
            if layers.get(&container.layer).is_none() {
                let problem = format!("its layer {} has no record", container.layer);
                findings.push(Finding::Container {
                    id: container.id.clone(),
                    problem,
                });
            }
        }
        Ok(findings)
    }

    fn has_layer(
        &self,
        layers: &crate::records::Table<LayerRecord>,
        id: &str,
    ) -> Result<bool, RecordsError> {
        if layers.get(id).is_some() {
            return Ok(true);
        }
        match LayerId::parse(id) {
            Ok(id) => Ok(self.foreign_layer(&id)?.is_some()),
            Err(_) => Ok(false),
        }
    }

    fn layer_problems(&self, layer: &LayerRecord, depth: CheckDepth) -> Vec<String> {
        let id = match LayerId::parse(&layer.id) {
            Ok(id) => id,
            Err(error) => return vec![error.to_string()],
        };
        let mut problems = self.driver.examine(&id);
        if layer.diff_digest.is_empty() || !problems.is_empty() {
            return problems;
        }
        let tar = match self.layer_tar(&id) {
            Ok(tar) => tar,
            Err(error) => return vec![error.to_string()],
        };
        if depth == CheckDepth::Digests {
            match digest(tar) {
                Ok(digest) if digest == layer.diff_digest => {}
                Ok(digest) => problems.push(format!(
                    "its content has digest {digest} instead of {}",
                    layer.diff_digest
                )),
                Err(error) => problems.push(format!("its content cannot be reproduced: {error}")),
            }
        }
        problems
    }
}

fn digest(mut tar: impl Read) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = tar.read(&mut buffer)?;
        if count == 0 {
            let digest = crioxide_names::Digest::from_sha256(&hasher.finalize().into());
            return Ok(digest.to_string());
        }
        hasher.update(&buffer[..count]);
    }
}
