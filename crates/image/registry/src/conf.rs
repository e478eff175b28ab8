//! registries.conf: which registries exist, under which names, and where they really are.
//!
//! The main file may be in the version 2 or the old version 1 format, drop-ins are version 2.
//! Later files replace whole `[[registry]]` tables with the same prefix and whole scalar keys;
//! aliases are merged one by one.

mod file;
mod prefix;
mod registry;
mod resolve;
mod short_name;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use registry::{Mirror, MirrorUse, Registry};
pub use resolve::{Endpoint, EndpointKind, Endpoints, Manifest, ResolveError};
pub use short_name::{CandidatesError, ShortNameMode};

/// Where registries.conf and what belongs to it are read from.
#[derive(Debug, Clone)]
pub struct ConfPaths {
    /// The main file; it may be missing.
    pub file: PathBuf,
    /// The drop-in directory; it may be missing.
    pub drop_ins: PathBuf,
    /// Aliases recorded by interactive tools; they win over configured ones. It may be missing.
    pub alias_cache: Option<PathBuf>,
}

impl Default for ConfPaths {
    fn default() -> Self {
        Self {
            file: "/etc/containers/registries.conf".into(),
            drop_ins: "/etc/containers/registries.conf.d".into(),
            alias_cache: Some("/var/cache/containers/short-name-aliases.conf".into()),
        }
    }
}

/// The merged registries configuration.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf {
    registries: Vec<Registry>,
    search: Vec<String>,
    search_origin: PathBuf,
    aliases: BTreeMap<String, Alias>,
    short_name_mode: ShortNameMode,
    credential_helpers: Vec<String>,
}

/// What a short name stands for, and the file that says so.
#[derive(Debug, Clone)]
struct Alias {
    target: String,
    origin: PathBuf,
}

/// Why the registries configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadRegistriesConfError {
    /// A file or the drop-in directory cannot be read.
    #[error("read registries configuration `{}`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file is not TOML, or a key has the wrong type.
    #[error("parse registries configuration `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and key.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("registries configuration `{}`: key `{key}`: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key, with the table it is in.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
}

impl RegistriesConf {
    /// Reads the main file and every `*.conf` drop-in in lexical order.
    pub fn load(paths: &ConfPaths) -> Result<Self, LoadRegistriesConfError> {
        let mut conf = Self {
            search_origin: paths.file.clone(),
            ..Self::default()
        };
        if let Some(text) = read_if_present(&paths.file)? {
            conf.merge(file::parse(&paths.file, &text)?, &paths.file);
        }
        for path in drop_ins(&paths.drop_ins)? {
            if let Some(text) = read_if_present(&path)? {
                conf.merge(file::parse_drop_in(&path, &text)?, &path);
            }
        }
        if let Some(path) = &paths.alias_cache
            && let Some(text) = read_if_present(path)?
        {
            let cache = file::parse_drop_in(path, &text)?;
            conf.merge_aliases(cache.aliases, path);
        }
        Ok(conf)
    }

    /// The configured registries, in the order of the files.
    #[must_use]
    pub fn registries(&self) -> &[Registry] {
        &self.registries
    }

    /// The programs to ask for credentials, in this order; none means auth files only.
    #[must_use]
    pub fn credential_helpers(&self) -> &[String] {
        &self.credential_helpers
    }

    /// Replaces the short-name mode, as crio.conf's `short_name_mode` does.
    #[must_use]
    pub fn with_short_name_mode(mut self, mode: ShortNameMode) -> Self {
        self.short_name_mode = mode;
        self
    }

    fn merge(&mut self, parsed: file::Parsed, path: &Path) {
        for registry in parsed.registries {
            match self
                .registries
                .iter_mut()
                .find(|r| r.prefix == registry.prefix)
            {
                Some(existing) => *existing = registry,
                None => self.registries.push(registry),
            }
        }
        if let Some(search) = parsed.search {
            self.search = search;
            self.search_origin = path.to_owned();
        }
        if let Some(mode) = parsed.short_name_mode {
            self.short_name_mode = mode;
        }
        if let Some(helpers) = parsed.credential_helpers {
            self.credential_helpers = helpers;
        }
        self.merge_aliases(parsed.aliases, path);
    }

    /// An empty target takes an alias of an earlier file away.
    fn merge_aliases(&mut self, aliases: BTreeMap<String, String>, path: &Path) {
        for (name, target) in aliases {
            if target.is_empty() {
                self.aliases.remove(&name);
            } else {
                let origin = path.to_owned();
                self.aliases.insert(name, Alias { target, origin });
            }
        }
    }
}

fn read_if_present(path: &Path) -> Result<Option<String>, LoadRegistriesConfError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LoadRegistriesConfError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, LoadRegistriesConfError> {
    let failed = |source| LoadRegistriesConfError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "conf") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
