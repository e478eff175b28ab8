//! What a puller is made with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crioxide_registry::{
    AuthFiles, ClientSettings, ConfPaths, LoadPolicyError, Policy, ShortNameMode,
};
use crioxide_store::Store;

use crate::platform::Platform;

/// What a puller is made with. [`PullSettings::new`] gives the system's defaults.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// Where images go.
    pub store: Arc<Store>,
    /// registries.conf, its drop-ins and the alias cache.
    pub registries: ConfPaths,
    /// Overrides registries.conf's `short-name-mode`.
    pub short_name_mode: Option<ShortNameMode>,
    /// Auth files, asked when a request brings no credentials.
    pub auth_files: AuthFiles,
    /// Certificates, timeouts, retries.
    pub client: ClientSettings,
    /// What may be pulled.
    pub policy: PolicySource,
    /// registries.d: where signatures are kept.
    pub signature_places: PathBuf,
    /// What images must be made for.
    pub platform: Platform,
    /// Layers fetched and unpacked at the same time, over all pulls.
    pub max_parallel_layers: usize,
    /// Directory of the private keys for encrypted layers, read for each image that has some.
    pub decryption_keys: PathBuf,
    /// Directory for the unnamed copy of a compressed archive.
    pub scratch: PathBuf,
    /// How long unpacking and recording may go on without getting further, because the store's disk does not answer.
    pub disk_timeout: Duration,
    /// Roots with artifacts that are only read, before our own.
    pub additional_artifact_stores: Vec<PathBuf>,
}

/// Where the signature policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// A policy.json, read anew for each pull. It must exist.
    File(PathBuf),
    /// No policy: everything may be used.
    AcceptAnything,
}

impl PullSettings {
    /// The system's files, this machine's platform, as many layers at once as there are CPUs (at least two, so that the
    /// network and the disk do not wait for each other).
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            registries: ConfPaths::default(),
            short_name_mode: None,
            auth_files: AuthFiles::system(),
            client: ClientSettings::default(),
            policy: PolicySource::File("/etc/containers/policy.json".into()),
            signature_places: "/etc/containers/registries.d".into(),
            platform: Platform::host(),
            max_parallel_layers: std::thread::available_parallelism().map_or(2, |n| n.get().max(2)),
            decryption_keys: "/etc/crio/keys".into(),
            scratch: "/var/tmp".into(),
            disk_timeout: Duration::from_secs(60),
            additional_artifact_stores: Vec::new(),
        }
    }
}

impl PolicySource {
    /// The policy in force; `instead` is a file that takes its place for one request.
    pub(crate) fn load(&self, instead: Option<&Path>) -> Result<Option<Policy>, LoadPolicyError> {
        match (instead, self) {
            (Some(path), _) => Policy::load(path).map(Some),
            (None, Self::File(path)) => Policy::load(path).map(Some),
            (None, Self::AcceptAnything) => Ok(None),
        }
    }
}
