//! Auth files as podman and docker write them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Credentials;
use crate::secret::Secret;

/// An auth file larger than this is not read (bytes).
const MAX_AUTH_FILE: u64 = 4 << 20;

/// Auth files in the order they are asked.
#[derive(Debug, Clone, Default)]
pub struct AuthFiles {
    paths: Vec<PathBuf>,
}

/// Why an auth file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadAuthFileError {
    /// It cannot be read.
    #[error("read auth file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is larger than any real one.
    #[error("auth file `{}` is larger than {MAX_AUTH_FILE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not JSON of the right shape. The position is given, the text (secrets) is not.
    #[error("parse auth file `{}`: line {line}, column {column}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line of the flaw, from 1.
        line: usize,
        /// Column of the flaw, from 1.
        column: usize,
    },
    /// An entry's `auth` is not base64 of `user:password`.
    #[error("auth file `{}`: `auth` of `{key}` is not base64 of user:password", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    #[serde(default)]
    auths: BTreeMap<String, RawEntry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
struct RawEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl AuthFiles {
    /// Uses these files, first one first; missing ones are passed over.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The places where container tools of root keep their logins.
    #[must_use]
    pub fn system() -> Self {
        let mut paths = Vec::new();
        if let Some(path) = std::env::var_os("REGISTRY_AUTH_FILE") {
            paths.push(path.into());
        }
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(dir) => paths.push(Path::new(&dir).join("containers/auth.json")),
            None => paths.push("/run/containers/0/auth.json".into()),
        }
        if let Some(home) = std::env::var_os("HOME") {
            let home = Path::new(&home);
            paths.push(home.join(".config/containers/auth.json"));
            paths.push(home.join(".docker/config.json"));
            paths.push(home.join(".dockercfg"));
        }
        Self { paths }
    }

    /// Asks `path` before all others.
    #[must_use]
    pub fn preferring(&self, path: PathBuf) -> Self {
        let mut paths = vec![path];
        paths.extend(self.paths.iter().cloned());
        Self { paths }
    }

    /// The credentials for `host/repository`: the entry with the longest matching key of the first
    /// file that has one.
    pub fn lookup(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Credentials>, LoadAuthFileError> {
        for path in &self.paths {
            if let Some(credentials) = lookup_in(path, host, repository)? {
                tracing::debug!(file = %path.display(), host, "credentials found");
                return Ok(Some(credentials));
            }
        }
        Ok(None)
    }
}

fn lookup_in(
    path: &Path,
    host: &str,
    repository: &str,
) -> Result<Option<Credentials>, LoadAuthFileError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let file = parse(path, &bytes)?;
    if file.cred_helpers.contains_key(host) || !file.creds_store.is_empty() {
        tracing::warn!(file = %path.display(), host, "credential helpers are not supported yet");
    }
    for key in keys(host, repository) {
        let found = file.auths.iter().find(|(name, _)| normalize(name) == key);
        if let Some((name, entry)) = found
            && let Some(credentials) = entry.credentials(path, name)?
        {
            return Ok(Some(credentials));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, LoadAuthFileError> {
    let failed = |source| LoadAuthFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_AUTH_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_AUTH_FILE {
        return Err(LoadAuthFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(Some(bytes))
}

/// `.dockercfg` is the bare table of entries.
fn parse(path: &Path, bytes: &[u8]) -> Result<RawFile, LoadAuthFileError> {
    let failed = |e: serde_json::Error| LoadAuthFileError::Parse {
        path: path.to_owned(),
        line: e.line(),
        column: e.column(),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(RawFile {
            auths: BTreeMap::new(),
            cred_helpers: BTreeMap::new(),
            creds_store: String::new(),
        });
    }
    if path.file_name().is_some_and(|name| name == ".dockercfg") {
        let auths = serde_json::from_slice(bytes).map_err(failed)?;
        return Ok(RawFile {
            auths,
            cred_helpers: BTreeMap::new(),
            creds_store: String::new(),
        });
    }
    serde_json::from_slice(bytes).map_err(failed)
}

/// `host/a/b`, `host/a`, `host`.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let full = format!("{}/{repository}", docker_host(host));
    let mut keys = vec![full.clone()];
    let mut rest = full.as_str();
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        keys.push(shorter.to_owned());
        rest = shorter;
    }
    keys
}

/// An entry's key as current tools would write it: old ones wrote URLs.
fn normalize(key: &str) -> String {
    let stripped = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let key = match stripped {
        Some(url) => url.split('/').next().unwrap_or(url),
        None => key.trim_end_matches('/'),
    };
    match key.split_once('/') {
        Some((host, path)) => format!("{}/{path}", docker_host(host)),
        None => docker_host(key).to_owned(),
    }
}

/// Docker Hub has three names.
fn docker_host(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

impl RawEntry {
    fn credentials(
        &self,
        path: &Path,
        key: &str,
    ) -> Result<Option<Credentials>, LoadAuthFileError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(Secret::new(
                self.identitytoken.clone(),
            ))));
        }
        if !self.auth.is_empty() {
            let flaw = || LoadAuthFileError::Entry {
                path: path.to_owned(),
                key: key.to_owned(),
            };
            return Credentials::decode(&self.auth).map(Some).ok_or_else(flaw);
        }
        if !self.username.is_empty() {
            return Ok(Some(Credentials::password(
                self.username.clone(),
                self.password.clone(),
            )));
        }
        Ok(None)
    }
}
