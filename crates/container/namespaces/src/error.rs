//! Why namespaces could not be made, kept or given up.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why namespaces could not be made, kept or given up.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// A name that is no plain file name.
    #[error("`{name}` cannot name a namespace")]
    Name {
        /// The name.
        name: String,
    },
    /// A file or mount of a pin.
    #[error("{action} `{}`", path.display())]
    Pin {
        /// What was being done.
        action: &'static str,
        /// The pin or its directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel makes no more namespaces, or the thread could not be started.
    #[error("{action}")]
    Make {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused a map of ids.
    #[error("write the id map {map}")]
    IdMap {
        /// The map: ids inside, ids outside, how many.
        map: String,
        /// What the system said.
        source: io::Error,
    },
    /// The helper could not do it.
    #[error("make the namespaces of a user namespace: {reason}")]
    Helper {
        /// What it said.
        reason: String,
    },
    /// The host name was refused.
    #[error("set host name `{hostname}`")]
    Hostname {
        /// The name.
        hostname: String,
        /// What the system said.
        source: io::Error,
    },
    /// A sysctl whose key would leave /proc/sys.
    #[error("`{key}` is not a sysctl")]
    SysctlKey {
        /// The key.
        key: String,
    },
    /// The kernel refused a sysctl.
    #[error("set sysctl `{key}` to `{value}`")]
    Sysctl {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What the system said.
        source: io::Error,
    },
}
