//! Why images cannot be restored.

use std::path::PathBuf;

/// What images say that the new container does not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{image}: {problem}")]
pub struct Refusal {
    /// Name of the image.
    pub image: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Why images were not fitted to a container.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// They say something that the container does not give.
    #[error("the checkpoint is refused: {0}")]
    Refused(#[from] Refusal),
    /// They could not be read or written.
    #[error("{action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The new container is of a kind that nothing is restored into.
    #[error("a container with {what} cannot be restored from a checkpoint")]
    Unsupported {
        /// Of what kind.
        what: &'static str,
    },
    /// The new container's seccomp profile.
    #[error("compile the seccomp profile")]
    Seccomp(#[from] crioxide_confinement::seccomp::CompileError),
}

/// A problem of an image whose name is added later.
pub(crate) type Problem = String;
