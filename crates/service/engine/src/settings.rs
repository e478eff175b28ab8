//! What the configuration means to the engine.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use crioxide_names::PodId;
use crioxide_runtime_spec::{HostFacts, SpecDefaults, annotation_filter, resources::CgroupFacts};

use crate::{
    MetricGroup,
    ports::{CheckpointSupport, runtime_name},
};

/// A runtime handler, as pods choose it.
#[derive(Debug, Clone, Default)]
pub struct Handler {
    /// Least memory limit of its containers, bytes.
    pub minimum_memory: i64,
    /// Annotations of its pods, unless they set them.
    pub default_annotations: BTreeMap<String, String>,
    /// Annotations with an effect that its pods may use.
    pub allowed_annotations: Vec<String>,
    /// Programs that run containers of some platforms (`os/arch`) instead of the handler's usual one.
    pub platform_programs: BTreeMap<String, String>,
    /// Processes that are run in its containers start on the first of their processors.
    pub exec_on_first_cpu: bool,
    /// It can map the ids of mounts.
    pub id_mapped_mounts: bool,
    /// A program other than ours. It looks up a container's root with the rights that the container has.
    pub foreign: bool,
    /// A shim runs its pods: each has an infra container, and its containers tell the shim which pod they belong to.
    pub shim: bool,
}

/// What becomes of the volumes that images declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageVolumes {
    /// Directories in the container's own file system.
    Mkdir,
    /// Directories of the host that go with the container.
    Bind,
    /// They are ignored.
    Ignore,
}

/// Settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our version.
    pub version: String,
    /// Annotations that make a pod part of a workload, with those that it may use then.
    pub workloads: Vec<(String, Vec<String>)>,
    /// Handler of pods that name none.
    pub default_handler: String,
    /// Handlers by name.
    pub handlers: BTreeMap<String, Handler>,
    /// Where pods log that name no directory.
    pub log_dir: String,
    /// `enable_pod_events`.
    pub pod_events: bool,
    /// `included_pod_metrics`.
    pub pod_metrics: BTreeSet<MetricGroup>,
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
    /// `oci_artifact_mount_support`.
    pub artifact_mounts: bool,
    /// `container_level_enabled`, as far as this node can do it.
    pub checkpoints: CheckpointSupport,
    /// What the node's cgroups can do.
    pub cgroups: CgroupFacts,
    /// Facts about the node for specs.
    pub host: HostFacts,
    /// Configured defaults for specs.
    pub defaults: SpecDefaults,
}

/// What a container is to its pod, in the words of shims.
pub(crate) const SANDBOX: &str = "sandbox";
pub(crate) const CONTAINER: &str = "container";

impl Settings {
    /// Whether a shim runs a handler's pods.
    pub(crate) fn has_shim(&self, handler: &str) -> bool {
        self.handlers
            .get(handler)
            .is_some_and(|handler| handler.shim)
    }

    /// The program that a handler has for containers of a platform; empty for its usual one.
    pub(crate) fn platform_program(&self, handler: &str, platform: &str) -> &str {
        let handler = self.handlers.get(handler).filter(|handler| !handler.shim);
        handler
            .and_then(|handler| handler.platform_programs.get(platform))
            .map_or("", String::as_str)
    }

    /// By which name the backend knows the runtime of a container whose record names a program for its platform.
    pub(crate) fn runtime_of(&self, handler: &str, recorded_program: &str) -> String {
        match self.has_shim(handler) {
            true => handler.to_owned(),
            false => runtime_name(handler, recorded_program),
        }
    }

    /// The annotations by which containerd's shims see which pod a container belongs to. kata's reads CRI-O's, too.
    pub(crate) fn shim_annotations(
        &self,
        handler: &str,
        pod: &PodId,
        kind: &str,
    ) -> impl Iterator<Item = (String, String)> {
        let shim = self.has_shim(handler);
        let annotations = [
            ("io.kubernetes.cri.sandbox-id", pod.as_str()),
            ("io.kubernetes.cri.container-type", kind),
        ];
        let of_shim = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        of_shim.into_iter().filter(move |_| shim)
    }

    /// Removes the annotations that reach into the runtime or the node and that nobody allowed pods of this handler.
    pub(crate) fn filter_annotations(
        &self,
        handler: &str,
        pod: &HashMap<String, String>,
        annotations: &HashMap<String, String>,
    ) -> HashMap<String, String> {
        let of_handler = self.handlers.get(handler);
        let mut allowed = of_handler
            .map(|handler| handler.allowed_annotations.clone())
            .unwrap_or_default();
        for (activation, more) in &self.workloads {
            if pod.contains_key(activation) {
                allowed.extend_from_slice(more);
            }
        }
        let sorted = annotations.clone().into_iter().collect();
        annotation_filter::filter(sorted, &allowed)
            .into_iter()
            .collect()
    }
}
