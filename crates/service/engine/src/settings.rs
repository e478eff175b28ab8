//! What the configuration means to the engine.

use std::{collections::BTreeMap, path::PathBuf};

use crioxide_runtime_spec::{HostFacts, SpecDefaults, resources::CgroupFacts};

/// A runtime handler, as pods choose it.
#[derive(Debug, Clone, Default)]
pub struct Handler {
    /// Least memory limit of its containers, bytes.
    pub minimum_memory: i64,
    /// Annotations of its pods, unless they set them.
    pub default_annotations: BTreeMap<String, String>,
    /// Annotations with an effect that its pods may use.
    pub allowed_annotations: Vec<String>,
}

/// What becomes of the volumes that images declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageVolumes {
    /// Directories in the container's own file system.
    Mkdir,
    /// They are ignored.
    Ignore,
}

/// Settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our version.
    pub version: String,
    /// Handler of pods that name none.
    pub default_handler: String,
    /// Handlers by name.
    pub handlers: BTreeMap<String, Handler>,
    /// Where pods log that name no directory.
    pub log_dir: String,
    /// `enable_pod_events`.
    pub pod_events: bool,
    /// `default_sysctls`, parsed.
    pub sysctls: Vec<(String, String)>,
    /// The node's own name.
    pub node_hostname: String,
    /// Sources of bind mounts that are not made when missing.
    pub rejected_mount_sources: Vec<PathBuf>,
    /// `infra_ctr_cpuset`.
    pub infra_cpuset: String,
    /// `pause_image`, for records; nothing is pulled.
    pub pause_image: String,
    /// `drop_infra_ctr` is off: every pod gets a pause process.
    pub always_pause: bool,
    /// `image_volumes`.
    pub image_volumes: ImageVolumes,
    /// What the node's cgroups can do.
    pub cgroups: CgroupFacts,
    /// Facts about the node for specs.
    pub host: HostFacts,
    /// Configured defaults for specs.
    pub defaults: SpecDefaults,
}
