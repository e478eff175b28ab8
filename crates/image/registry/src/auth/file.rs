//! Auth files as podman and docker write them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{CredentialHelperError, Credentials, credential_helper};
use crate::secret::Secret;

/// An auth file larger than this is not read (bytes).
const MAX_AUTH_FILE: u64 = 4 << 20;

/// Auth files in the order they are asked.
#[derive(Debug, Clone, Default)]
pub struct AuthFiles {
    paths: Vec<PathBuf>,
    /// What is asked, in this order; nothing means the files only.
    helpers: Vec<String>,
}

/// The name of the files themselves among credential helpers.
const FILES: &str = "containers-auth.json";
/// What Docker calls its registry when it asks a helper for it.
const DOCKER_SERVER: &str = "https://index.docker.io/v1/";

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
    /// A program that a file refers to does not give an answer.
    #[error("auth file `{}`", path.display())]
    Helper {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CredentialHelperError,
    },
    /// A program that registries.conf refers to does not give an answer.
    #[error("`credential-helpers` of registries.conf")]
    ConfiguredHelper {
        /// What is wrong.
        #[source]
        source: CredentialHelperError,
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
        Self {
            paths,
            helpers: Vec::new(),
        }
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
        Self::new(paths)
    }

    /// Asks these credential helpers, by name and in this order; the files are called `containers-auth.json` among them.
    #[must_use]
    pub fn consulting(&self, helpers: &[String]) -> Self {
        Self {
            paths: self.paths.clone(),
            helpers: helpers.to_vec(),
        }
    }

    /// Asks `path` before all others.
    #[must_use]
    pub fn preferring(&self, path: PathBuf) -> Self {
        let mut paths = vec![path];
        paths.extend(self.paths.iter().cloned());
        Self {
            paths,
            helpers: self.helpers.clone(),
        }
    }

    /// The credentials for `host/repository`: the entry with the longest matching key of the first
    /// file that has one. May run credential helpers, and then blocks until they answer.
    pub fn lookup(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Credentials>, LoadAuthFileError> {
        if self.helpers.is_empty() {
            return self.lookup_in_files(host, repository);
        }
        for name in &self.helpers {
            let found = if name == FILES {
                self.lookup_in_files(host, repository)?
            } else {
                credential_helper::ask(name, docker_host(host))
                    .map_err(|source| LoadAuthFileError::ConfiguredHelper { source })?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn lookup_in_files(
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
    let ask = |helper: &str, server: &str| {
        credential_helper::ask(helper, server).map_err(|source| LoadAuthFileError::Helper {
            path: path.to_owned(),
            source,
        })
    };
    let host_key = docker_host(host);
    if let Some((_, helper)) = file
        .cred_helpers
        .iter()
        .find(|(key, _)| normalize(key) == host_key)
    {
        return ask(helper, host_key);
    }
    for key in keys(host, repository) {
        let found = file.auths.iter().find(|(name, _)| normalize(name) == key);
        if let Some((name, entry)) = found
            && let Some(credentials) = entry.credentials(path, name)?
        {
            return Ok(Some(credentials));
        }
    }
    if file.creds_store.is_empty() {
        return Ok(None);
    }
    let server = match host_key {
        "docker.io" => DOCKER_SERVER,
        other => other,
    };
    ask(&file.creds_store, server)
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
