//! Why attaching or detaching a pod failed.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::{CacheError, FindPluginError, ParseConfigError, PluginError, SpecVersion};

/// Pods cannot be attached now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotReady {
    /// What is missing, for the node's status.
    pub reason: String,
}

/// An operation on a pod's network failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// There is no usable network.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The request itself is wrong.
    #[error("network of pod `{id}`: {reason}")]
    Pod {
        /// The pod.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The pod's network namespace is not there.
    #[error("network namespace `{}` of pod `{id}` is not there", path.display())]
    Netns {
        /// The pod.
        id: String,
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// A plugin is missing.
    #[error("network `{network}`")]
    Find {
        /// The network.
        network: String,
        /// Which plugin.
        source: FindPluginError,
    },
    /// Attaching failed; it was undone unless `undo` says otherwise.
    #[error("add pod `{id}` to network `{network}`{}", undo_note(undo.as_deref()))]
    Add {
        /// The pod.
        id: String,
        /// The network.
        network: String,
        /// What went wrong.
        source: Box<PluginError>,
        /// Why undoing it failed as well.
        undo: Option<String>,
    },
    /// The loopback interface could not be brought up.
    #[error("bring up the loopback interface of pod `{id}`")]
    Loopback {
        /// The pod.
        id: String,
        /// What went wrong.
        source: Box<PluginError>,
    },
    /// Detaching failed; the attachment stays recorded and can be removed again.
    #[error("remove pod `{id}` from network `{network}`: {failures}")]
    Del {
        /// The pod.
        id: String,
        /// The network.
        network: String,
        /// What each failing plugin said.
        failures: String,
    },
    /// The attachment is not as it should be.
    #[error("check pod `{id}` on network `{network}`")]
    Check {
        /// The pod.
        id: String,
        /// The network.
        network: String,
        /// What differs.
        source: Box<PluginError>,
    },
    /// The network's version has no CHECK.
    #[error("check pod `{id}` on network `{network}`: CNI version {version} has no CHECK")]
    CheckUnsupported {
        /// The pod.
        id: String,
        /// The network.
        network: String,
        /// Its version.
        version: SpecVersion,
    },
    /// There is no record of the pod.
    #[error("pod `{id}` has no interface `{ifname}` on record")]
    Unknown {
        /// The pod.
        id: String,
        /// The interface.
        ifname: String,
    },
    /// The configuration in the record cannot be read.
    #[error("read the recorded configuration of pod `{id}`")]
    RecordedConfig {
        /// The pod.
        id: String,
        /// What is wrong.
        source: Box<ParseConfigError>,
    },
    /// The record could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

fn undo_note(undo: Option<&str>) -> String {
    undo.map_or_else(String::new, |reason| {
        format!(" (undoing it failed too: {reason})")
    })
}

/// An error with its chain of causes on one line, where no chain can be carried.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
