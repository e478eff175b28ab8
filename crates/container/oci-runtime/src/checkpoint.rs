//! What a checkpoint is taken with.

use std::path::PathBuf;
use std::time::Duration;

/// A checkpoint to be taken.
#[derive(Debug, Clone)]
pub struct CheckpointRequest {
    /// The program that reads and writes the state of processes, as an absolute path.
    pub criu: PathBuf,
    /// An existing directory that gets the images of the processes.
    pub images: PathBuf,
    /// An existing directory that gets `dump.log` and `stats-dump`.
    pub work: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
}
