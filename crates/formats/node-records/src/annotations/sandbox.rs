//! Annotations of a pod's own record.

use std::collections::BTreeMap;

use super::keys;
use super::map::{ParseAnnotationsError, Reader, insert_ips, parse_json, requested};
use super::values::{LinuxResources, NamespaceOptions, PortMapping, SandboxMetadata};
use crate::go_json::record;
use crate::go_time::{self, Moment};

/// Everything a pod is restored from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SandboxAnnotations {
    /// Sandbox id, which is also the infra container's.
    pub id: String,
    /// Sandbox name (`k8s_…`).
    pub name: String,
    /// Infra container name (`k8s_POD_…`).
    pub infra_container_name: String,
    /// Namespace in Kubernetes.
    pub namespace: String,
    /// Name in Kubernetes.
    pub kube_name: String,
    /// Host name.
    pub hostname: String,
    /// File mounted as `/etc/hostname`.
    pub hostname_path: String,
    /// File mounted as `/etc/resolv.conf`; empty if none.
    pub resolv_path: String,
    /// Directory mounted as `/dev/shm`.
    pub shm_path: String,
    /// Root file system of the infra container.
    pub mount_point: String,
    /// Log file of the infra container.
    pub log_path: String,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Whether privileged containers are allowed.
    pub privileged: bool,
    /// Whether the node's network is used.
    pub host_network: bool,
    /// Runtime handler as requested.
    pub runtime_handler: String,
    /// Namespace modes.
    pub namespace_options: NamespaceOptions,
    /// Ports of the node.
    pub port_mappings: Vec<PortMapping>,
    /// JSON text of the CNI result; `None` with the node's network.
    pub cni_result: Option<String>,
    /// Addresses; recorded by some versions only.
    pub ips: Vec<String>,
    /// Creation time.
    pub created: Moment,
    /// CRI metadata.
    pub metadata: SandboxMetadata,
    /// CRI labels.
    pub labels: BTreeMap<String, String>,
    /// CRI annotations.
    pub annotations: BTreeMap<String, String>,
    /// `RuntimeDefault`, `Unconfined` or a file.
    pub seccomp_profile: String,
    /// Reference of the pause image.
    pub image: String,
    /// Name of the pause image.
    pub image_name: String,
    /// Pod overhead.
    pub overhead: Option<LinuxResources>,
    /// Pod-level resources.
    pub resources: Option<LinuxResources>,
    /// Whether there is no infra process.
    pub spoofed: bool,
    /// The image's stop signal.
    pub stop_signal: Option<String>,
}

impl SandboxAnnotations {
    /// The annotations of the record, the CRI labels and annotations among them.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = requested([&self.annotations, &self.labels]);
        let mut put = |key: &str, value: &str| {
            map.insert(key.to_owned(), value.to_owned());
        };
        put(keys::MANAGER, keys::MANAGER_VALUE);
        put(keys::CONTAINER_TYPE, "sandbox");
        put(keys::SANDBOX_ID, &self.id);
        put(keys::CONTAINER_ID, &self.id);
        put(keys::NAME, &self.name);
        put(keys::SANDBOX_NAME, &self.name);
        put(keys::CONTAINER_NAME, &self.infra_container_name);
        put(keys::NAMESPACE, &self.namespace);
        put(keys::KUBE_NAME, &self.kube_name);
        put(keys::HOST_NAME, &self.hostname);
        put(keys::HOSTNAME_PATH, &self.hostname_path);
        put(keys::RESOLV_PATH, &self.resolv_path);
        put(keys::SHM_PATH, &self.shm_path);
        put(keys::MOUNT_POINT, &self.mount_point);
        put(keys::LOG_PATH, &self.log_path);
        put(keys::CGROUP_PARENT, &self.cgroup_parent);
        put(keys::PRIVILEGED_RUNTIME, &self.privileged.to_string());
        put(keys::HOST_NETWORK, &self.host_network.to_string());
        put(keys::RUNTIME_HANDLER, &self.runtime_handler);
        put(keys::NAMESPACE_OPTIONS, &record(&self.namespace_options));
        put(keys::PORT_MAPPINGS, &record(&self.port_mappings));
        put(keys::CREATED, &go_time::format(self.created));
        put(keys::METADATA, &record(&self.metadata));
        put(keys::LABELS, &record(&self.labels));
        put(keys::ANNOTATIONS, &record(&self.annotations));
        put(keys::SECCOMP_PROFILE_PATH, &self.seccomp_profile);
        put(keys::IMAGE, &self.image);
        put(keys::IMAGE_NAME, &self.image_name);
        put(keys::POD_LINUX_OVERHEAD, &record(&self.overhead));
        put(keys::POD_LINUX_RESOURCES, &record(&self.resources));
        if let Some(result) = &self.cni_result {
            put(keys::CNI_RESULT, result);
        }
        if self.spoofed {
            put(keys::SPOOFED, "true");
        }
        if let Some(signal) = &self.stop_signal {
            put(keys::STOP_SIGNAL, signal);
        }
        insert_ips(&mut map, &self.ips);
        map
    }

    /// Reads a pod's record.
    ///
    /// # Errors
    /// Fails if the record is another tool's, lacks what identifies the pod, or holds values that cannot be read.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self, ParseAnnotationsError> {
        let reader = Reader(map);
        reader.check_manager()?;
        let metadata: SandboxMetadata = reader.json(keys::METADATA)?;
        for (field, value) in [
            ("name", &metadata.name),
            ("namespace", &metadata.namespace),
            ("uid", &metadata.uid),
        ] {
            if value.is_empty() {
                return Err(ParseAnnotationsError::MetadataField { field });
            }
        }
        Ok(Self {
            id: reader.required(keys::SANDBOX_ID)?,
            name: reader.required(keys::NAME)?,
            infra_container_name: reader.text(keys::CONTAINER_NAME),
            namespace: reader.required(keys::NAMESPACE)?,
            kube_name: reader.text(keys::KUBE_NAME),
            hostname: reader.text(keys::HOST_NAME),
            hostname_path: reader.text(keys::HOSTNAME_PATH),
            resolv_path: reader.text(keys::RESOLV_PATH),
            shm_path: reader.text(keys::SHM_PATH),
            mount_point: reader.text(keys::MOUNT_POINT),
            log_path: reader.text(keys::LOG_PATH),
            cgroup_parent: reader.text(keys::CGROUP_PARENT),
            privileged: reader.flag(keys::PRIVILEGED_RUNTIME),
            host_network: reader.flag(keys::HOST_NETWORK),
            runtime_handler: reader.text(keys::RUNTIME_HANDLER),
            namespace_options: reader.json(keys::NAMESPACE_OPTIONS)?,
            port_mappings: reader.json(keys::PORT_MAPPINGS)?,
            cni_result: reader
                .optional(keys::CNI_RESULT)
                .filter(|result| !result.is_empty()),
            ips: reader.ips(),
            created: reader.time(keys::CREATED)?,
            metadata,
            labels: reader.json(keys::LABELS)?,
            annotations: reader.json(keys::ANNOTATIONS)?,
            seccomp_profile: reader.text(keys::SECCOMP_PROFILE_PATH),
            image: reader.text(keys::IMAGE),
            image_name: reader.text(keys::IMAGE_NAME),
            overhead: parse_json(
                keys::POD_LINUX_OVERHEAD,
                reader
                    .renamed(keys::POD_LINUX_OVERHEAD, keys::POD_LINUX_OVERHEAD_V1)
                    .as_deref(),
            )?,
            resources: parse_json(
                keys::POD_LINUX_RESOURCES,
                reader
                    .renamed(keys::POD_LINUX_RESOURCES, keys::POD_LINUX_RESOURCES_V1)
                    .as_deref(),
            )?,
            spoofed: reader
                .renamed(keys::SPOOFED, keys::SPOOFED_V1)
                .is_some_and(|value| value == "true"),
            stop_signal: reader.optional(keys::STOP_SIGNAL),
        })
    }
}
