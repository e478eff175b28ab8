//! The OCI spec of a container, from its plan and what the host says.

use std::path::Path;

use crioxide_cri_api::v1;
use crioxide_node_records::ContainerAnnotations;
use crioxide_runtime_spec::{ContainerSpecRequest, SpecOutput, annotation_filter, container_spec};
use oci_spec::runtime::{Mount, Spec};

use super::plan::Plan;
use crate::{
    Engine, EngineError,
    error::Context as _,
    ops::{accounts, run_pod},
    ports::{ConfinementRequest, DevicesRequest, HooksRequest, LabelRequest, Labels, RecordDirs},
    settings::ImageVolumes,
};

impl Engine {
    pub(super) async fn container_spec(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        rootfs: &Path,
        labels: &Labels,
    ) -> Result<SpecOutput, EngineError> {
        let (ports, settings) = (&self.inner.ports, &self.inner.settings);
        let security = plan
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.clone());
        let (user, mut extra_mounts) = accounts::resolve_user(
            ports,
            plan.request_user(),
            dirs,
            rootfs,
            &plan.ownership(labels),
        )
        .await
        .map_err(|error| {
            EngineError::refused(format!("container {}: {}", plan.name, error.message()))
        })?;
        if let Some(hosts) = self.hosts_file(plan, dirs, labels).await? {
            extra_mounts.push(hosts);
        }
        self.prepare_root(plan, rootfs).await?;
        extra_mounts.extend(self.declared_volumes(plan, dirs, labels).await?);
        let volumes = self.volume_sources(plan, dirs, labels).await?;
        let security = security.unwrap_or_default();
        let mut defaults = settings.defaults.clone();
        if let Some(handler) = settings.handlers.get(&plan.pod.info.runtime_handler) {
            defaults.minimum_memory = handler.minimum_memory;
            defaults.exec_on_first_cpu = handler.exec_on_first_cpu;
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
        let mut confinement = confinement
            .await
            .doing(|| format!("security profiles of container {}", plan.name))?;
        run_pod::apply_labels(&mut confinement, labels);
        let devices = ports.host.devices(DevicesRequest {
            handler: plan.pod.info.runtime_handler.clone(),
            privileged: plan.privileged,
            requested: plan.config.devices.clone(),
            annotated: annotation_filter::lookup(
                &plan.pod.info.annotations,
                "devices.crio.io",
                Some(&plan.metadata.name),
            )
            .unwrap_or_default()
            .to_owned(),
            user: id(security.run_as_user.as_ref()),
            group: id(security.run_as_group.as_ref()),
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

    /// SELinux labels: the pod's, changed as the request says.
    pub(super) async fn container_labels(&self, plan: &Plan) -> Result<Labels, EngineError> {
        let linux = plan.config.linux.as_ref();
        let security = linux.and_then(|linux| linux.security_context.as_ref());
        let settings = &self.inner.settings;
        let labels = self.inner.ports.host.labels(LabelRequest {
            options: security.and_then(|security| security.selinux_options.clone()),
            namespaces: security.and_then(|security| security.namespace_options.clone()),
            privileged: plan.privileged,
            virtual_machine: settings.has_shim(&plan.pod.info.runtime_handler),
            pod: Some(plan.pod.labels.clone()),
        });
        labels
            .await
            .doing(|| format!("SELinux labels of container {}", plan.name))
    }

    /// What a runtime other than ours needs, which looks paths up by itself.
    pub(super) async fn prepare_for_others(
        &self,
        plan: &Plan,
        rootfs: &Path,
    ) -> Result<(), EngineError> {
        let (ports, settings) = (&self.inner.ports, &self.inner.settings);
        let handler = settings.handlers.get(&plan.pod.info.runtime_handler);
        let foreign = handler.is_some_and(|handler| handler.foreign);
        if !foreign && plan.platform_program.is_empty() {
            return Ok(());
        }
        let failed = || format!("failed to prepare the root of container {}", plan.name);
        ports.host.check_root(rootfs).await.doing(failed)?;
        if plan.pod.user().is_some() {
            ports.records.open_the_way(rootfs).await.doing(failed)?;
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
            .create_in_root(rootfs, directories, plan.root_owner())
            .await;
        made.doing(|| format!("failed to prepare the root of container {}", plan.name))
    }

    /// A hosts file for a container that is given none: without it a pod cannot even find itself.
    async fn hosts_file(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        labels: &Labels,
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
            .write_run_file(dirs, "hosts", content.into_bytes(), plan.ownership(labels))
            .await;
        let path =
            path.doing(|| format!("failed to write the hosts file of container {}", plan.name))?;
        Ok(Some(accounts::bind("/etc/hosts", &path)))
    }
}

/// A user or group of the request, as far as it is one.
fn id(value: Option<&v1::Int64Value>) -> Option<u32> {
    value.and_then(|value| u32::try_from(value.value).ok())
}
