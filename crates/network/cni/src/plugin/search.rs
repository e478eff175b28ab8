//! Finding plugins: programs in the configured directories, or built-in ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::check_plugin_type;
use crate::plugin::exec::ExecPlugin;
use crate::{Plugin, PluginSource};

/// Which of two plugins of the same type is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The program, as CRI-O would; the built-in one when there is none.
    #[default]
    Executable,
    /// The built-in one; the program when there is none.
    Builtin,
}

/// Where plugins come from.
#[derive(Debug, Clone)]
pub struct Plugins {
    directories: Vec<PathBuf>,
    builtin: Arc<dyn PluginSource>,
    preference: Preference,
}

/// A plugin, and where it came from.
pub struct Found {
    /// The plugin.
    pub plugin: Box<dyn Plugin>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a plugin came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A program of its own.
    Program,
    /// Built in.
    Builtin,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// There is no such plugin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FindPluginError {
    /// The type is not a plain name.
    #[error("{reason}")]
    Type {
        /// What is wrong with it.
        reason: String,
    },
    /// Neither a program nor a built-in plugin has this name.
    #[error(
        "CNI plugin `{plugin_type}` is neither in {} nor built in",
        directory_list(directories)
    )]
    Missing {
        /// The plugin's type.
        plugin_type: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
}

impl Plugins {
    /// Plugins in `directories`, searched in order, and those of `builtin`.
    pub fn new(
        directories: Vec<PathBuf>,
        builtin: Arc<dyn PluginSource>,
        preference: Preference,
    ) -> Self {
        Self {
            directories,
            builtin,
            preference,
        }
    }

    /// The plugin of this type.
    ///
    /// # Errors
    /// When there is none, or the type is not a plain name.
    pub fn find(&self, plugin_type: &str) -> Result<Found, FindPluginError> {
        self.find_preferring(plugin_type, self.preference)
    }

    /// The plugin of this type, by another preference than the configured one.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_preferring(
        &self,
        plugin_type: &str,
        preference: Preference,
    ) -> Result<Found, FindPluginError> {
        check_plugin_type(plugin_type).map_err(|reason| FindPluginError::Type { reason })?;
        let program = || {
            let plugin = self.program(plugin_type)?;
            Some(Found {
                plugin: Box::new(plugin),
                origin: Origin::Program,
            })
        };
        let builtin = || {
            Some(Found {
                plugin: self.builtin.plugin(plugin_type)?,
                origin: Origin::Builtin,
            })
        };
        let found = match preference {
            Preference::Executable => program().or_else(builtin),
            Preference::Builtin => builtin().or_else(program),
        };
        found.ok_or_else(|| FindPluginError::Missing {
            plugin_type: plugin_type.to_owned(),
            directories: self.directories.clone(),
        })
    }

    /// The same plugins, the built-in ones first.
    pub(crate) fn preferring_builtin(&self) -> Self {
        Self {
            preference: Preference::Builtin,
            ..self.clone()
        }
    }

    /// The directories as `CNI_PATH` holds them.
    pub(crate) fn search_path(&self) -> String {
        let parts: Vec<_> = self
            .directories
            .iter()
            .map(|path| path.to_string_lossy())
            .collect();
        parts.join(":")
    }

    fn program(&self, plugin_type: &str) -> Option<ExecPlugin> {
        self.directories
            .iter()
            .map(|directory| directory.join(plugin_type))
            .find_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                let runnable = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
                runnable.then(|| ExecPlugin {
                    plugin_type: plugin_type.to_owned(),
                    path,
                })
            })
    }
}

fn directory_list(directories: &[PathBuf]) -> String {
    if directories.is_empty() {
        return "any plugin directory".to_owned();
    }
    let parts: Vec<_> = directories
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    parts.join(", ")
}
