//! The OCI spec of a container, from its plan and what the host says.

use std::path::Path;

use crioxide_node_records::ContainerAnnotations;
use crioxide_runtime_spec::{ContainerSpecRequest, SpecOutput, container_spec};
use oci_spec::runtime::{Mount, Spec};

use super::plan::Plan;
use crate::{
    Engine, EngineError,
    error::Context as _,
    ops::accounts,
    ports::{ConfinementRequest, DevicesRequest, HooksRequest, RecordDirs},
    settings::ImageVolumes,
};

impl Engine {
    pub(super) async fn container_spec(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        rootfs: &Path,
    ) -> Result<SpecOutput, EngineError> {
        let (ports, settings) = (&self.inner.ports, &self.inner.settings);
        let security = plan
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.clone());
        let (user, mut extra_mounts) =
            accounts::resolve_user(ports, plan.request_user(), dirs, rootfs)
                .await
                .map_err(|error| {
                    EngineError::refused(format!("container {}: {}", plan.name, error.message()))
                })?;
        if let Some(hosts) = self.hosts_file(plan, dirs).await? {
            extra_mounts.push(hosts);
        }
        self.prepare_root(plan, rootfs).await?;
        let volumes = self.volume_sources(plan).await?;
        let security = security.unwrap_or_default();
        let mut defaults = settings.defaults.clone();
        if let Some(handler) = settings.handlers.get(&plan.pod.info.runtime_handler) {
            defaults.minimum_memory = handler.minimum_memory;
        }
        let add = security.capabilities.as_ref();
        let capabilities = crioxide_runtime_spec::capabilities::select(
            add,
            &defaults.capabilities,
            &settings.host.bounding,
        )
        .map_err(|error| EngineError::failed(format!("container {}", plan.name), &error))?;
        let confinement = ports.host.confinement(ConfinementRequest {
            handler: plan.pod.info.runtime_handler.clone(),
            privileged: plan.privileged,
            seccomp: security.seccomp.clone(),
            apparmor: security.apparmor.clone(),
            capabilities: capabilities.into_iter().collect(),
        });
        let confinement = confinement
            .await
            .doing(|| format!("security profiles of container {}", plan.name))?;
        let devices = ports.host.devices(DevicesRequest {
            handler: plan.pod.info.runtime_handler.clone(),
            privileged: plan.privileged,
            requested: plan.config.devices.clone(),
        });
        let devices = devices
            .await
            .doing(|| format!("devices of container {}", plan.name))?;
        let namespaces = plan.namespaces(self)?;
        container_spec(&ContainerSpecRequest {
            id: plan.id.as_str(),
            config: &plan.config,
            sandbox: &plan.sandbox_with_privilege(),
            image: &plan.image.config,
            user: &user,
            rootfs,
            hostname: &plan.pod.info.hostname,
            cgroup_parent: &plan.pod.info.cgroup_parent,
            namespaces: &namespaces,
            files: &plan.pod_files(),
            volumes: &volumes,
            extra_mounts: &extra_mounts,
            devices: &devices,
            confinement: &confinement,
            umask: None,
            console_size: None,
            host: &settings.host,
            defaults: &defaults,
        })
        .map_err(|error| EngineError::refused(crate::chain(&error)))
    }

    /// The annotations with an effect that this container may use.
    pub(super) fn allowed_annotations(&self, plan: &Plan) -> &[String] {
        let handlers = &self.inner.settings.handlers;
        handlers
            .get(&plan.pod.info.runtime_handler)
            .map_or(&[], |handler| &handler.allowed_annotations)
    }

    /// The administrator's hooks go into the spec.
    pub(super) async fn add_hooks(
        &self,
        plan: &Plan,
        info: &ContainerAnnotations,
        spec: &mut Spec,
    ) -> Result<(), EngineError> {
        let mut annotations = info.inherited.clone();
        annotations.extend(info.annotations.clone());
        let process = spec.process().as_ref();
        let command = process.and_then(|process| process.args().as_ref()?.first().cloned());
        let request = HooksRequest {
            annotations,
            command: command.unwrap_or_default(),
            bind_mounts: !plan.config.mounts.is_empty(),
        };
        let hooks = self.inner.ports.host.hooks(request).await;
        if let Some(hooks) = hooks.doing(|| format!("hooks of container {}", plan.name))? {
            spec.set_hooks(Some(hooks));
        }
        Ok(())
    }

    /// Directories that the container expects: its working directory and the volumes its image declares.
    async fn prepare_root(&self, plan: &Plan, rootfs: &Path) -> Result<(), EngineError> {
        let image = &plan.image.config;
        let mut directories = Vec::new();
        let cwd = if plan.config.working_dir.is_empty() {
            &image.working_dir
        } else {
            &plan.config.working_dir
        };
        if !cwd.is_empty() && cwd != "/" {
            directories.push(cwd.clone());
        }
        if self.inner.settings.image_volumes == ImageVolumes::Mkdir {
            directories.extend(image.volumes.iter().cloned());
        }
        if directories.is_empty() {
            return Ok(());
        }
        let made = self
            .inner
            .ports
            .host
            .create_in_root(rootfs, directories)
            .await;
        made.doing(|| format!("failed to prepare the root of container {}", plan.name))
    }

    /// A hosts file for a container that is given none: without it a pod cannot even find itself.
    async fn hosts_file(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
    ) -> Result<Option<Mount>, EngineError> {
        let given = plan
            .config
            .mounts
            .iter()
            .any(|mount| mount.container_path.trim_end_matches('/') == "/etc/hosts");
        if given || plan.pod.info.host_network {
            return Ok(None);
        }
        let content =
            crioxide_runtime_spec::files::hosts(&plan.pod.info.hostname, &plan.pod.info.ips);
        let path = self
            .inner
            .ports
            .records
            .write_run_file(dirs, "hosts", content.into_bytes())
            .await;
        let path =
            path.doing(|| format!("failed to write the hosts file of container {}", plan.name))?;
        Ok(Some(accounts::bind("/etc/hosts", &path)))
    }
}
