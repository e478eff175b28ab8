//! What a container takes from its image.

use std::collections::BTreeMap;

/// The parts of an image's configuration that shape a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Platform it was made for, as `os/arch` in Go's words.
    pub platform: String,
    /// `K=V` variables.
    pub env: Vec<String>,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Working directory; empty if none.
    pub working_dir: String,
    /// `user[:group]`; empty if none.
    pub user: String,
    /// Paths the image declares as volumes.
    pub volumes: Vec<String>,
    /// Stop signal; empty if none.
    pub stop_signal: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
