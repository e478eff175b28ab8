//! Annotations of a container's record.

use std::collections::BTreeMap;

use super::keys;
use super::map::{ParseAnnotationsError, Reader, insert_ips, requested};
use super::values::{ContainerMetadata, Volume};
use crate::go_json::record;
use crate::go_time::{self, Moment};

/// Everything a container is restored from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerAnnotations {
    /// Container id.
    pub id: String,
    /// Container name (`k8s_…`).
    pub name: String,
    /// Sandbox id.
    pub sandbox_id: String,
    /// Sandbox name (`k8s_…`).
    pub sandbox_name: String,
    /// Log file.
    pub log_path: String,
    /// Creation time.
    pub created: Moment,
    /// CRI metadata.
    pub metadata: ContainerMetadata,
    /// CRI labels.
    pub labels: BTreeMap<String, String>,
    /// CRI annotations.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the sandbox that the container inherits, already filtered; they never override its own.
    ///
    /// [`Self::from_map`] puts every other unknown annotation here as well.
    pub inherited: BTreeMap<String, String>,
    /// File mounted as `/etc/resolv.conf`.
    pub resolv_path: String,
    /// Root file system.
    pub mount_point: String,
    /// `RuntimeDefault`, `Unconfined` or a file.
    pub seccomp_profile: String,
    /// The user's image reference.
    pub image: String,
    /// A name of the image.
    pub image_name: String,
    /// Image id.
    pub image_ref: String,
    /// `repository@digest` of the image.
    pub image_repo_digests: Vec<String>,
    /// Addresses of the pod.
    pub ips: Vec<String>,
    /// Whether a terminal is used.
    pub tty: bool,
    /// Whether stdin is open.
    pub stdin: bool,
    /// Whether stdin closes after the first attach.
    pub stdin_once: bool,
    /// Mounts.
    pub volumes: Vec<Volume>,
    /// Runtime binary chosen for the platform; usually empty.
    pub platform_runtime_path: String,
    /// The image's stop signal.
    pub stop_signal: Option<String>,
}

/// Properties of the systemd scope of a container, as annotations runtimes turn into unit properties.
///
/// `grace_period_seconds` is the CRI annotation's text; anything but a plain number is ignored, because the value would
/// otherwise end up in a unit property unchecked.
#[must_use]
pub fn systemd_properties(grace_period_seconds: Option<&str>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::from([
        (
            keys::SYSTEMD_DEFAULT_DEPENDENCIES.to_owned(),
            "true".to_owned(),
        ),
        (
            keys::SYSTEMD_AFTER.to_owned(),
            "['crio.service']".to_owned(),
        ),
    ]);
    if let Some(seconds) = grace_period_seconds
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<u32>().ok())
    {
        map.insert(
            keys::SYSTEMD_TIMEOUT_STOP.to_owned(),
            format!("uint64 {seconds}000000"),
        );
    }
    map
}

impl ContainerAnnotations {
    /// The annotations of the record.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = requested([&self.inherited, &self.annotations, &self.labels]);
        let mut put = |key: &str, value: &str| {
            map.insert(key.to_owned(), value.to_owned());
        };
        put(keys::MANAGER, keys::MANAGER_VALUE);
        put(keys::CONTAINER_TYPE, "container");
        put(keys::CONTAINER_ID, &self.id);
        put(keys::NAME, &self.name);
        put(keys::SANDBOX_ID, &self.sandbox_id);
        put(keys::SANDBOX_NAME, &self.sandbox_name);
        put(keys::LOG_PATH, &self.log_path);
        put(keys::CREATED, &go_time::format(self.created));
        put(keys::METADATA, &record(&self.metadata));
        put(keys::LABELS, &record(&self.labels));
        put(keys::ANNOTATIONS, &record(&self.annotations));
        put(keys::RESOLV_PATH, &self.resolv_path);
        put(keys::MOUNT_POINT, &self.mount_point);
        put(keys::SECCOMP_PROFILE_PATH, &self.seccomp_profile);
        put(keys::IMAGE, &self.image);
        put(keys::IMAGE_NAME, &self.image_name);
        put(keys::IMAGE_REF, &self.image_ref);
        put(keys::IMAGE_REPO_DIGESTS, &self.image_repo_digests.join(","));
        put(keys::TTY, &self.tty.to_string());
        put(keys::STDIN, &self.stdin.to_string());
        put(keys::STDIN_ONCE, &self.stdin_once.to_string());
        put(keys::VOLUMES, &record(&self.volumes));
        put(keys::PLATFORM_RUNTIME_PATH, &self.platform_runtime_path);
        if let Some(signal) = &self.stop_signal {
            put(keys::STOP_SIGNAL, signal);
        }
        insert_ips(&mut map, &self.ips);
        map
    }

    /// Reads a container's record.
    ///
    /// # Errors
    /// Fails if the record is another tool's, lacks what identifies the container, or holds values that cannot be read.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self, ParseAnnotationsError> {
        let reader = Reader(map);
        reader.check_manager()?;
        let metadata: ContainerMetadata = reader.json(keys::METADATA)?;
        if metadata.name.is_empty() {
            return Err(ParseAnnotationsError::MetadataField { field: "name" });
        }
        let mut container = Self {
            id: reader.required(keys::CONTAINER_ID)?,
            name: reader.required(keys::NAME)?,
            sandbox_id: reader.required(keys::SANDBOX_ID)?,
            sandbox_name: reader.text(keys::SANDBOX_NAME),
            log_path: reader.text(keys::LOG_PATH),
            created: reader.time(keys::CREATED)?,
            metadata,
            labels: reader.json(keys::LABELS)?,
            annotations: reader.json(keys::ANNOTATIONS)?,
            inherited: BTreeMap::new(),
            resolv_path: reader.text(keys::RESOLV_PATH),
            mount_point: reader.text(keys::MOUNT_POINT),
            seccomp_profile: reader.text(keys::SECCOMP_PROFILE_PATH),
            image: reader.text(keys::IMAGE),
            image_name: reader.text(keys::IMAGE_NAME),
            image_ref: reader.text(keys::IMAGE_REF),
            image_repo_digests: reader
                .text(keys::IMAGE_REPO_DIGESTS)
                .split(',')
                .filter(|digest| !digest.is_empty())
                .map(str::to_owned)
                .collect(),
            ips: reader.ips(),
            tty: reader.flag(keys::TTY),
            stdin: reader.flag(keys::STDIN),
            stdin_once: reader.flag(keys::STDIN_ONCE),
            volumes: reader.json(keys::VOLUMES)?,
            platform_runtime_path: reader
                .renamed(keys::PLATFORM_RUNTIME_PATH, keys::PLATFORM_RUNTIME_PATH_V1)
                .unwrap_or_default(),
            stop_signal: reader.optional(keys::STOP_SIGNAL),
        };
        let own = container.to_map();
        container.inherited = map
            .iter()
            .filter(|(key, _)| !own.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Ok(container)
    }
}
