//! Where everything is below the graph root and the run root.

use crate::LayerId;
use std::path::{Path, PathBuf};

/// The directories of one store with one driver.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) graph_root: PathBuf,
    pub(crate) run_root: PathBuf,
    pub(crate) image_store: Option<PathBuf>,
    pub(crate) driver: &'static str,
}

impl Layout {
    pub(crate) fn graph_lock(&self) -> PathBuf {
        self.graph_root.join("storage.lock")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.of_driver(self.image_root(), "images")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.of_driver(&self.graph_root, "layers")
    }

    pub(crate) fn image_store_layers(&self) -> Option<PathBuf> {
        self.image_store
            .as_deref()
            .map(|root| self.of_driver(root, "layers"))
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.of_driver(&self.graph_root, "containers")
    }

    pub(crate) fn run_containers(&self) -> PathBuf {
        self.of_driver(&self.run_root, "containers")
    }

    pub(crate) fn run_layers(&self) -> PathBuf {
        self.of_driver(&self.run_root, "layers")
    }

    pub(crate) fn digest_locks(&self) -> PathBuf {
        self.of_driver(&self.run_root, "locks")
    }

    pub(crate) fn driver_home(&self) -> PathBuf {
        self.graph_root.join(self.driver)
    }

    /// Where the driver keeps image layers.
    pub(crate) fn image_driver_home(&self) -> PathBuf {
        self.image_root().join(self.driver)
    }

    /// Always below the graph root, for layers of the image store as well.
    pub(crate) fn tar_split(&self, layer: &LayerId) -> PathBuf {
        self.layers().join(format!("{layer}.tar-split.gz"))
    }

    pub(crate) fn layer_big_data(&self, layer: &LayerId) -> PathBuf {
        self.layers().join(layer)
    }

    pub(crate) fn image_root(&self) -> &Path {
        self.image_store.as_deref().unwrap_or(&self.graph_root)
    }

    fn of_driver(&self, root: &Path, kind: &str) -> PathBuf {
        root.join(format!("{}-{kind}", self.driver))
    }
}
