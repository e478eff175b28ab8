//! What a plugin is, whether it runs here or as a program of its own.

pub(crate) mod chain;
pub(crate) mod exec;
pub(crate) mod orphans;
pub(crate) mod search;

use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::{Plugins, SpecVersion};

/// The specification's verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Verify an attachment.
    Check,
    /// Tell whether attaching would work.
    Status,
    /// Free what belongs to no valid attachment.
    Gc,
    /// List supported versions.
    Version,
}

/// What the caller knows of earlier attachments of the same container and interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// There is none: the caller's own records say so, plugins need not search theirs.
    None,
    /// Unknown.
    Unknown,
}

/// Who made the attachment that DEL takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// This very plugin, by the same configuration.
    Itself,
    /// Perhaps another implementation of it.
    Unknown,
}

/// What becomes of the network namespace after DEL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The caller drops it right after, and its links with it.
    Discarded,
    /// It may live on, so its links must be removed.
    Kept,
}

/// One invocation of a plugin.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Id of the container (for a runtime: of the pod); empty for STATUS and GC.
    pub container_id: &'a str,
    /// Path of the pod's network namespace; not given when it is gone.
    pub netns: Option<&'a Path>,
    /// Name of the interface inside the pod.
    pub ifname: &'a str,
    /// `CNI_ARGS`, in order.
    pub args: &'a [(String, String)],
    /// The plugin's configuration as it goes to its standard input: with name, version, runtime
    /// configuration and previous result.
    pub config: Map<String, Value>,
    /// Version the configuration is in.
    pub version: SpecVersion,
    /// When the call must be over.
    pub deadline: Instant,
    /// Where plugins that this one delegates to (address management) are found.
    pub plugins: &'a Plugins,
    /// Earlier attachments.
    pub history: History,
    /// Whose attachment it is.
    pub maker: Maker,
    /// What becomes of the namespace after DEL.
    pub fate: Fate,
}

/// A CNI plugin.
pub trait Plugin: Send + Sync {
    /// Attaches, and returns the result in the call's version.
    ///
    /// # Errors
    /// The plugin's own; it has undone what it made.
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError>;

    /// Detaches. Succeeds when there is nothing left to do.
    ///
    /// # Errors
    /// The plugin's own.
    fn del(&self, call: &Call<'_>) -> Result<(), PluginError>;

    /// Verifies an attachment against its result.
    ///
    /// # Errors
    /// What differs.
    fn check(&self, call: &Call<'_>) -> Result<(), PluginError>;

    /// Tells whether attaching would work.
    ///
    /// # Errors
    /// Why not.
    fn status(&self, call: &Call<'_>) -> Result<(), PluginError>;

    /// Frees what belongs to none of the configuration's `cni.dev/valid-attachments`.
    ///
    /// # Errors
    /// The plugin's own.
    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError>;

    /// Makes again what the host has lost of an attachment: packet rules go when somebody reloads
    /// the firewall. Not a verb of the specification; plugins that keep nothing on the host, and
    /// programs, do nothing.
    ///
    /// # Errors
    /// The plugin's own.
    fn restore(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    /// Supported versions of the specification, as text.
    ///
    /// # Errors
    /// When the plugin cannot be asked.
    fn versions(&self, call: &Call<'_>) -> Result<Vec<String>, PluginError>;
}

/// Plugins that need no program.
pub trait PluginSource: Send + Sync + std::fmt::Debug {
    /// The built-in plugin called `plugin_type`.
    fn plugin(&self, plugin_type: &str) -> Option<Box<dyn Plugin>>;
}

/// Error codes of the specification; plugins use 100 and above for their own.
pub mod error_code {
    /// The version is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A key of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or its namespace gone.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A parameter in the environment is missing or wrong.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO_FAILURE: u32 = 5;
    /// The configuration is not JSON of the right shape.
    pub const DECODING_FAILURE: u32 = 6;
    /// The configuration is invalid.
    pub const INVALID_CONFIG: u32 = 7;
    /// Trying again may help.
    pub const TRY_AGAIN: u32 = 11;
    /// The plugin is not available.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Any other failure of a plugin.
    pub const FAILED: u32 = 100;
}

/// A plugin failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It said so itself.
    #[error("CNI plugin `{plugin}` failed (code {code}): {message}{}{details}", if details.is_empty() { "" } else { "; " })]
    Reported {
        /// The plugin's type.
        plugin: String,
        /// Its error code.
        code: u32,
        /// What happened.
        message: String,
        /// More about it; may be empty.
        details: String,
    },
    /// It could not be started.
    #[error("start CNI plugin `{plugin}` at `{}`", path.display())]
    Start {
        /// The plugin's type.
        plugin: String,
        /// Its program.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It did not finish in time; its process group was killed.
    #[error("CNI plugin `{plugin}` did not finish {verb:?} within {seconds:.1} s and was killed")]
    TimedOut {
        /// The plugin's type.
        plugin: String,
        /// What it was doing.
        verb: Verb,
        /// How long it was given.
        seconds: f64,
    },
    /// Talking to it failed.
    #[error("talk to CNI plugin `{plugin}`")]
    Talk {
        /// The plugin's type.
        plugin: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It ended without an error message that could be understood.
    #[error("CNI plugin `{plugin}` ended with {status}, and said: {output}")]
    Ended {
        /// The plugin's type.
        plugin: String,
        /// How it ended.
        status: String,
        /// Beginning of its output.
        output: String,
    },
    /// Its result could not be understood.
    #[error("CNI plugin `{plugin}` gave a result that cannot be understood: {reason}")]
    Garbage {
        /// The plugin's type.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A plugin it delegates to was not found.
    #[error(transparent)]
    Find(#[from] crate::FindPluginError),
}

impl PluginError {
    /// An error a built-in plugin reports of itself.
    pub fn reported(plugin: &str, code: u32, message: impl Into<String>) -> Self {
        Self::Reported {
            plugin: plugin.to_owned(),
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// An error a built-in plugin reports because of `error`, with its chain of causes.
    pub fn caused(plugin: &str, code: u32, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::reported(plugin, code, message)
    }
}
