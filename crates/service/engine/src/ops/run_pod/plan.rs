//! What a request for a pod means, decided and checked before the host is touched.

use crioxide_cri_api::v1;
use crioxide_names::PodId;
use crioxide_node_records::record_names::PodIdentity;
use crioxide_runtime_spec::{
    cgroups_path, files,
    hostname::{self, NetworkScope},
    labels,
    namespaces::{UserNamespaceSource, user_namespace},
    port_mappings,
    sysctls::{self, SharedNamespaces},
};

use crate::{Engine, EngineError};

/// Everything that is decided before the host is touched.
pub(super) struct Plan {
    pub(super) id: PodId,
    pub(super) name: String,
    pub(super) handler: String,
    pub(super) config: v1::PodSandboxConfig,
    pub(super) metadata: v1::PodSandboxMetadata,
    pub(super) options: v1::NamespaceOption,
    pub(super) hostname: String,
    pub(super) resolv_conf: Option<String>,
    pub(super) sysctls: std::collections::BTreeMap<String, String>,
    pub(super) cgroup_parent: String,
    pub(super) log_dir: String,
    pub(super) privileged: bool,
    /// A user namespace of the pod's own.
    pub(super) user: Option<UserNamespaceSource>,
    /// A real infra container holds the pod's PID namespace.
    pub(super) pause: bool,
}

impl Engine {
    pub(super) fn plan_pod(
        &self,
        mut config: v1::PodSandboxConfig,
        metadata: v1::PodSandboxMetadata,
        name: String,
        handler: String,
    ) -> Result<Plan, EngineError> {
        let settings = &self.inner.settings;
        let handler = if handler.is_empty() {
            settings.default_handler.clone()
        } else {
            handler
        };
        if !settings.handlers.contains_key(&handler) {
            let known = settings
                .handlers
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ");
            return Err(EngineError::refused(format!(
                "failed to find runtime handler {handler} from runtime list [{known}]"
            )));
        }
        let shim = settings.has_shim(&handler);
        config.annotations =
            settings.filter_annotations(&handler, &config.annotations, &config.annotations);
        let bad = |error: &(dyn std::error::Error + 'static)| {
            EngineError::failed(format!("pod {name}"), error)
        };
        labels::check_sizes(&config.labels).map_err(|error| bad(&error))?;
        let id = PodId::generate();
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.clone().unwrap_or_default();
        let options = security.namespace_options.clone().unwrap_or_default();
        check_namespaces(&name, &options)?;
        let user = user_namespace::requested(options.userns_options.as_ref())
            .map_err(|error| bad(&error))?;
        let options_pid = options.pid();
        let host_network = options.network() == v1::NamespaceMode::Node;
        let scope = if host_network {
            NetworkScope::Node
        } else {
            NetworkScope::Pod
        };
        let hostname = hostname::hostname(
            &config.hostname,
            id.as_str(),
            &settings.node_hostname,
            scope,
        )
        .map_err(|error| bad(&error))?;
        let resolv_conf =
            files::resolv_conf(config.dns_config.as_ref()).map_err(|error| bad(&error))?;
        let shared = SharedNamespaces {
            network: host_network,
            ipc: options.ipc() == v1::NamespaceMode::Node,
        };
        let defaults = settings
            .sysctls
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()));
        let requested = linux.sysctls.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let selected = sysctls::select(defaults, requested, shared);
        for warning in &selected.warnings {
            tracing::warn!("Pod {name}: {warning}");
        }
        let manager = settings.defaults.cgroup_manager;
        cgroups_path::cgroups_path(manager, &linux.cgroup_parent, id.as_str())
            .map_err(|error| bad(&error))?;
        port_mappings::host_ports(&config.port_mappings).map_err(|error| bad(&error))?;
        let log_dir = match config.log_directory.as_str() {
            "" => format!("{}/{id}", settings.log_dir),
            directory => directory.to_owned(),
        };
        Ok(Plan {
            id,
            name,
            handler,
            metadata,
            options,
            hostname,
            resolv_conf,
            sysctls: selected.values,
            cgroup_parent: linux.cgroup_parent.clone(),
            log_dir,
            privileged: security.privileged,
            user,
            pause: options_pid == v1::NamespaceMode::Pod || settings.always_pause || shim,
            config,
        })
    }
}

pub(super) fn checked_metadata(
    config: &v1::PodSandboxConfig,
) -> Result<v1::PodSandboxMetadata, EngineError> {
    let metadata = config
        .metadata
        .clone()
        .ok_or_else(|| EngineError::refused("PodSandboxConfig.Metadata is nil"))?;
    for (field, value) in [
        ("Name", &metadata.name),
        ("Namespace", &metadata.namespace),
        ("Uid", &metadata.uid),
    ] {
        if value.is_empty() {
            return Err(EngineError::refused(format!(
                "PodSandboxConfig.Metadata.{field} is empty"
            )));
        }
        if value.contains(['/', '\0', '\n']) {
            return Err(EngineError::refused(format!(
                "PodSandboxConfig.Metadata.{field} {value:?} has forbidden characters"
            )));
        }
    }
    Ok(metadata)
}

pub(crate) fn identity(metadata: &v1::PodSandboxMetadata) -> PodIdentity<'_> {
    PodIdentity {
        name: &metadata.name,
        namespace: &metadata.namespace,
        uid: &metadata.uid,
        attempt: metadata.attempt,
    }
}

fn check_namespaces(name: &str, options: &v1::NamespaceOption) -> Result<(), EngineError> {
    if options.pid() == v1::NamespaceMode::Target {
        return Err(EngineError::refused(format!(
            "pod {name}: a pod has no target for its PID namespace"
        )));
    }
    Ok(())
}
