//! Why a container's environment could not be made.

use std::io;
use std::path::{Path, PathBuf};

use crioxide_confinement::capabilities::ApplyCapabilitiesError;
use crioxide_files::InRootError;

use crate::hooks::HookError;
use crate::process::command::CommandError;

/// A failed step while the first process prepares itself and its surroundings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Something done to a path of the host or of the configuration.
    #[error("{action} `{}`", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// The path as configured.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A step without a path.
    #[error("{action}")]
    Step {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A lookup inside the container's root.
    #[error(transparent)]
    InRoot(#[from] InRootError),
    /// A file system that would not take an option.
    #[error("file system `{kind}` at `{}` refuses option `{option}`", destination.display())]
    MountOption {
        /// File system type.
        kind: String,
        /// Mount point.
        destination: PathBuf,
        /// The option.
        option: String,
        /// Why.
        source: io::Error,
    },
    /// Something in the way of a mount or device, where following it would leave the container.
    #[error("`{}` in the container is not what was expected: {found}", path.display())]
    Unexpected {
        /// The path inside the container.
        path: PathBuf,
        /// What was found there.
        found: &'static str,
    },
    /// A working directory outside the container's root.
    #[error("working directory `{}` is outside of the container", cwd.display())]
    CwdOutside {
        /// The directory as configured.
        cwd: PathBuf,
    },
    /// Capabilities.
    #[error(transparent)]
    Capabilities(#[from] ApplyCapabilitiesError),
    /// The program to run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The other side of the creation went away.
    #[error("the process creating the container went away")]
    PeerGone,
}

/// Adds what was done, and to what, to a system error.
pub(crate) fn at<E: Into<io::Error>>(
    action: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(E) -> SetupError {
    move |error| SetupError::Path {
        action,
        path: path.as_ref().to_owned(),
        source: error.into(),
    }
}

/// Adds what was done to a system error.
pub(crate) fn step<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> SetupError {
    move |error| SetupError::Step {
        action,
        source: error.into(),
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
