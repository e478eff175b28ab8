//! Network configuration lists, and single-plugin configurations wrapped as lists.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{ParseVersionError, SpecVersion};

/// A network: the plugins that make it, in order.
#[derive(Debug, Clone)]
pub struct NetworkList {
    /// Name of the network.
    pub name: String,
    /// Version of the specification its plugins are spoken to with.
    pub version: SpecVersion,
    /// CHECK is not to be used.
    pub disable_check: bool,
    /// GC is not to be used.
    pub disable_gc: bool,
    /// Plugins are also taken from the folder beside the list that has the network's name.
    pub takes_folder: bool,
    /// Plugins in the order of ADD.
    pub plugins: Vec<PluginConfig>,
    /// The list's text, as it is recorded with each attachment.
    pub bytes: Vec<u8>,
}

/// One plugin of a network.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Name of the plugin's program.
    pub plugin_type: String,
    /// All its keys, as the file has them.
    pub object: Map<String, Value>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseConfigError {
    /// The file could not be read.
    #[error("read CNI configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The text is not JSON.
    #[error("parse CNI configuration `{}`", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it fails.
        source: serde_json::Error,
    },
    /// A key is missing or has a wrong value.
    #[error("CNI configuration `{}`: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which key, and what is wrong with it.
        reason: String,
    },
    /// The version is not supported.
    #[error("CNI configuration `{}`", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version.
        source: ParseVersionError,
    },
}

impl NetworkList {
    /// Reads the text of a `.conflist` file; `path` names it in errors.
    ///
    /// # Errors
    /// When it is not JSON, a key is wrong, or its version is not supported.
    pub fn parse_list(path: &Path, bytes: &[u8]) -> Result<Self, ParseConfigError> {
        let list = Self::parse_inlined(path, bytes)?;
        if list.plugins.is_empty() {
            return Err(ParseConfigError::Invalid {
                path: path.to_owned(),
                reason: "`plugins` is empty".to_owned(),
            });
        }
        Ok(list)
    }

    /// Reads a list, which may hold no plugin of its own when all come from its folder
    /// ([`Self::takes_folder`], [`Self::append_plugin`]).
    pub(crate) fn parse_inlined(path: &Path, bytes: &[u8]) -> Result<Self, ParseConfigError> {
        let object = parse_object(path, bytes)?;
        let invalid = |reason: String| ParseConfigError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let name = network_name(path, &object)?;
        let flag = |key: &str| read_flag(&object, key).map_err(invalid);
        // `loadPluginsFromFolder` is the opposite, as a draft of the specification spelled it.
        let takes_folder = !flag("loadOnlyInlinedPlugins")?.unwrap_or(false)
            && flag("loadPluginsFromFolder")?.unwrap_or(true);
        let nothing = Vec::new();
        let entries = match object.get("plugins") {
            Some(Value::Array(entries)) => entries,
            None if takes_folder => &nothing,
            _ => return Err(invalid("`plugins` must be an array".to_owned())),
        };
        let mut plugins = Vec::with_capacity(entries.len());
        for (position, entry) in entries.iter().enumerate() {
            let Value::Object(entry) = entry else {
                return Err(invalid(format!("`plugins[{position}]` must be an object")));
            };
            plugins.push(
                PluginConfig::new(entry.clone())
                    .map_err(|reason| invalid(format!("`plugins[{position}]`: {reason}")))?,
            );
        }
        Ok(Self {
            name,
            version: list_version(path, &object)?,
            disable_check: flag("disableCheck")?.unwrap_or(false),
            disable_gc: flag("disableGC")?.unwrap_or(false),
            takes_folder,
            plugins,
            bytes: bytes.to_vec(),
        })
    }

    /// Appends the plugin in the text of a file of the list's folder.
    ///
    /// The list's own text grows by it and says that it is complete: an attachment must be removed
    /// with the plugins it was made with, whatever becomes of the folder.
    pub(crate) fn append_plugin(
        &mut self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), ParseConfigError> {
        let object = parse_object(path, bytes)?;
        let plugin =
            PluginConfig::new(object.clone()).map_err(|reason| ParseConfigError::Invalid {
                path: path.to_owned(),
                reason,
            })?;
        let mut whole = parse_object(path, &self.bytes)?;
        let plugins = whole.entry("plugins").or_insert_with(|| json!([]));
        if let Value::Array(plugins) = plugins {
            plugins.push(Value::Object(object));
        }
        whole.insert("loadOnlyInlinedPlugins".to_owned(), json!(true));
        self.bytes = Value::Object(whole).to_string().into_bytes();
        self.plugins.push(plugin);
        Ok(())
    }

    /// Reads the text of a `.conf` or `.json` file, which holds one plugin, as a list of one.
    ///
    /// # Errors
    /// As [`Self::parse_list`].
    pub fn parse_single(path: &Path, bytes: &[u8]) -> Result<Self, ParseConfigError> {
        let object = parse_object(path, bytes)?;
        if object.contains_key("plugins") && !object.contains_key("type") {
            // Lists are often stored under a .conf or .json name by mistake; say so.
            return Err(ParseConfigError::Invalid {
                path: path.to_owned(),
                reason: "holds a list of plugins, which needs a file name ending in `.conflist`"
                    .to_owned(),
            });
        }
        let name = network_name(path, &object)?;
        let version = list_version(path, &object)?;
        let plugin =
            PluginConfig::new(object.clone()).map_err(|reason| ParseConfigError::Invalid {
                path: path.to_owned(),
                reason,
            })?;
        let list = json!({"cniVersion": version.as_str(), "name": name, "plugins": [object]});
        Ok(Self {
            name,
            version,
            disable_check: false,
            disable_gc: false,
            takes_folder: false,
            plugins: vec![plugin],
            bytes: list.to_string().into_bytes(),
        })
    }
}

impl PluginConfig {
    /// Checks one plugin's keys.
    fn new(object: Map<String, Value>) -> Result<Self, String> {
        let plugin_type = match object.get("type") {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            _ => return Err("`type` must be a non-empty string".to_owned()),
        };
        check_plugin_type(&plugin_type)?;
        let ipam = object.get("ipam").and_then(|ipam| ipam.get("type"));
        if let Some(ipam) = ipam.and_then(Value::as_str).filter(|ipam| !ipam.is_empty()) {
            check_plugin_type(ipam).map_err(|reason| format!("`ipam`: {reason}"))?;
        }
        Ok(Self {
            plugin_type,
            object,
        })
    }

    /// Whether the plugin declares capability `name`.
    pub fn has_capability(&self, name: &str) -> bool {
        self.object
            .get("capabilities")
            .and_then(|all| all.get(name))
            == Some(&Value::Bool(true))
    }
}

/// A plugin is a program in one of the plugin directories; a name that leads elsewhere would let a
/// configuration run any file of the host.
pub(crate) fn check_plugin_type(plugin_type: &str) -> Result<(), String> {
    if plugin_type.is_empty()
        || plugin_type.contains(['/', '\0'])
        || plugin_type == "."
        || plugin_type.contains("..")
    {
        return Err(format!(
            "`type` must be the plain name of a plugin, not `{}`",
            plugin_type.escape_default()
        ));
    }
    Ok(())
}

/// The specification's rule for network names; they become file names.
fn check_network_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn parse_object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, ParseConfigError> {
    serde_json::from_slice(bytes).map_err(|source| ParseConfigError::Json {
        path: path.to_owned(),
        source,
    })
}

fn network_name(path: &Path, object: &Map<String, Value>) -> Result<String, ParseConfigError> {
    match object.get("name") {
        Some(Value::String(name)) if check_network_name(name) => Ok(name.clone()),
        Some(Value::String(name)) => Err(ParseConfigError::Invalid {
            path: path.to_owned(),
            reason: format!(
                "`name` must be letters, digits, `_`, `.` and `-`, not `{}`",
                name.escape_default()
            ),
        }),
        _ => Err(ParseConfigError::Invalid {
            path: path.to_owned(),
            reason: "`name` must be a string".to_owned(),
        }),
    }
}

/// The newest supported one of `cniVersions`, or `cniVersion`.
fn list_version(path: &Path, object: &Map<String, Value>) -> Result<SpecVersion, ParseConfigError> {
    if let Some(Value::Array(offered)) = object.get("cniVersions") {
        let newest = offered
            .iter()
            .filter_map(|text| text.as_str()?.parse::<SpecVersion>().ok())
            .max();
        if let Some(newest) = newest {
            return Ok(newest);
        }
    }
    let text = match object.get("cniVersion") {
        None => "0.1.0",
        Some(Value::String(text)) if text.is_empty() => "0.1.0",
        Some(Value::String(text)) => text,
        Some(_) => {
            return Err(ParseConfigError::Invalid {
                path: path.to_owned(),
                reason: "`cniVersion` must be a string".to_owned(),
            });
        }
    };
    text.parse().map_err(|source| ParseConfigError::Version {
        path: path.to_owned(),
        source,
    })
}

/// libcni takes these flags as JSON booleans and as strings.
fn read_flag(object: &Map<String, Value>, key: &str) -> Result<Option<bool>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(value) => Err(format!("`{key}` must be true or false, not {value}")),
    }
}

#[cfg(test)]
mod tests;
