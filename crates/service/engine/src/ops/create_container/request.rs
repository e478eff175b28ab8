//! What the parts of a request mean for the container's pod.

use crioxide_cri_api::v1;
use crioxide_runtime_spec::{
    mounts::fixed::PodFiles,
    namespaces::{NamespaceSource, NamespaceSources},
    user::UserRequest,
};

use super::plan::Plan;
use crate::{
    Engine, EngineError,
    ports::{Labels, Owner, Ownership},
    user_namespace,
};

impl Plan {
    pub(super) fn request_user(&self) -> UserRequest<'_> {
        UserRequest {
            security: self
                .config
                .linux
                .as_ref()
                .and_then(|linux| linux.security_context.as_ref()),
            image_user: &self.image.config.user,
        }
    }

    /// The pod's request with the privilege its record has: a repeated request cannot raise it.
    pub(super) fn sandbox_with_privilege(&self) -> v1::PodSandboxConfig {
        let mut sandbox = self.sandbox.clone();
        let linux = sandbox.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = self.pod.info.privileged;
        sandbox
    }

    /// Who owns the files that are made for the container: root in its user namespace, if it has one.
    pub(super) fn root_owner(&self) -> Option<Owner> {
        user_namespace::root_of(self.pod.user().as_ref())
    }

    /// How files that are made for the container look to it.
    pub(super) fn ownership(&self, labels: &Labels) -> Ownership {
        Ownership {
            owner: self.root_owner(),
            label: labels.mount.clone(),
        }
    }

    pub(super) fn pod_files(&self) -> PodFiles {
        let paths = &self.pod.paths;
        PodFiles {
            shm: Some(paths.shm.clone()),
            resolv_conf: Some(paths.resolv_conf.clone()),
            hostname: Some(paths.hostname.clone()),
            containerenv: Some(paths.containerenv.clone()),
            hosts: self.pod.info.host_network.then(|| "/etc/hosts".into()),
        }
    }

    /// Network, IPC and UTS are the pod's; the PID namespace is what the container asks for.
    pub(super) fn namespaces(&self, engine: &Engine) -> Result<NamespaceSources, EngineError> {
        let security = self
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let options = security
            .and_then(|security| security.namespace_options.clone())
            .unwrap_or_default();
        let paths = &self.pod.namespaces;
        let source = |path: &Option<std::path::PathBuf>| match path {
            Some(path) => NamespaceSource::Path(path.clone()),
            None => NamespaceSource::Host,
        };
        let pid = match options.pid() {
            v1::NamespaceMode::Container => NamespaceSource::Private,
            v1::NamespaceMode::Node => NamespaceSource::Host,
            v1::NamespaceMode::Pod => match &paths.pid {
                Some(path) => NamespaceSource::Path(path.clone()),
                None if self.pod.info.namespace_options.pid == v1::NamespaceMode::Node as i32 => {
                    NamespaceSource::Host
                }
                None => NamespaceSource::Private,
            },
            v1::NamespaceMode::Target => {
                let target = engine.find_container(&options.target_id)?;
                if target.pod != self.pod.id {
                    return Err(EngineError::refused(format!(
                        "container {}: target {} is in another pod",
                        self.name, target.id
                    )));
                }
                NamespaceSource::Path(format!("/proc/{}/ns/pid", target.init().pid).into())
            }
        };
        Ok(NamespaceSources {
            pid,
            network: if self.pod.info.host_network {
                NamespaceSource::Host
            } else {
                source(&paths.net)
            },
            ipc: source(&paths.ipc),
            uts: source(&paths.uts),
            user: self.pod.user(),
            ..NamespaceSources::default()
        })
    }
}
