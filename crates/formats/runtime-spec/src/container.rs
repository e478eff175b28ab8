//! The spec of a container.

use crioxide_node_records::annotations::values::Volume;
use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxDevice, LinuxPids, LinuxResources, Mount, Process, Spec,
};

use crate::mounts::fixed::{self, SysSource, Writability};
use crate::mounts::systemd;
use crate::mounts::volumes::{self, PreparedVolumes};
use crate::namespaces::NamespaceSource;
use crate::request::{ContainerSpecRequest, Privilege};
use crate::resources::{self, CgroupVersion};
use crate::spec_error::SpecError;
use crate::{
    capabilities, cgroups_path, command, devices, environment, masked_paths, process,
    process::exec_affinity,
};

/// A container's spec and what was decided on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecOutput {
    /// The spec, still without annotations: [`SpecOutput::annotate`] adds them.
    pub spec: Spec,
    /// The CRI mounts as the record keeps them.
    pub volumes: Vec<Volume>,
}

impl SpecOutput {
    /// Puts the record's annotations into the spec.
    pub fn annotate(&mut self, annotations: impl IntoIterator<Item = (String, String)>) {
        self.spec
            .set_annotations(Some(annotations.into_iter().collect()));
    }
}

/// Makes the spec of a container.
///
/// # Errors
/// Fails for requests that contradict themselves, the pod or the node.
pub fn container_spec(request: &ContainerSpecRequest<'_>) -> Result<SpecOutput, SpecError> {
    check_privilege(request)?;
    let arguments =
        command::arguments(&request.config.command, &request.config.args, request.image)?;
    let init = if command::is_systemd(&arguments) {
        InitSystem::Systemd
    } else {
        InitSystem::None
    };
    let volumes = volumes::prepare(
        &request.config.mounts,
        request.volumes,
        request.host.recursive_read_only,
    )?;
    let mounts = all_mounts(request, &volumes, init);
    let mut spec = process::empty_spec(request.hostname);
    let linux = container_linux(request, &volumes, init)?;
    let mut process = container_process(request, arguments, init)?;
    if request.defaults.exec_on_first_cpu
        && let Some(limits) = linux.resources()
    {
        let affinity = exec_affinity::first_cpu(limits, request.cgroup_parent);
        process.set_exec_cpu_affinity(affinity);
    }
    spec.set_process(Some(process));
    spec.set_root(Some(process::root(
        request.rootfs,
        request.rootfs_writability(),
    )));
    spec.set_linux(Some(linux));
    spec.set_mounts(Some(mounts));
    Ok(SpecOutput {
        spec,
        volumes: volumes.records,
    })
}

/// Whether the container brings an init system along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitSystem {
    None,
    Systemd,
}

fn check_privilege(request: &ContainerSpecRequest<'_>) -> Result<(), SpecError> {
    let pod_privileged = request
        .sandbox
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .is_some_and(|security| security.privileged);
    match request.privilege() {
        Privilege::Privileged if !pod_privileged => Err(SpecError::PrivilegeOfPod),
        _ => Ok(()),
    }
}

fn container_process(
    request: &ContainerSpecRequest<'_>,
    arguments: Vec<String>,
    init: InitSystem,
) -> Result<Process, SpecError> {
    let mut env = environment::merge(environment::Sources {
        defaults: &request.defaults.env,
        image: &request.image.env,
        pod: &request.config.envs,
        hostname: request.hostname,
        home: request.user.home.as_deref(),
    })?;
    if init == InitSystem::Systemd && environment::lookup(&env, systemd::ENVIRONMENT.0).is_none() {
        env.push(format!(
            "{}={}",
            systemd::ENVIRONMENT.0,
            systemd::ENVIRONMENT.1
        ));
    }
    let mut made = process::base(
        arguments,
        env,
        command::working_directory(&request.config.working_dir, request.image)?,
    );
    made.set_terminal(request.config.tty.then_some(true));
    if let Some((height, width)) = request.console_size.filter(|_| request.config.tty) {
        made.set_console_size(Some(process::console_size(height, width)));
    }
    made.set_user(process::user(request.user, request.umask));
    made.set_capabilities(Some(container_capabilities(request)?));
    if !request.defaults.rlimits.is_empty() {
        made.set_rlimits(Some(request.defaults.rlimits.clone()));
    }
    let no_new_privileges = request
        .security()
        .is_some_and(|security| security.no_new_privs);
    made.set_no_new_privileges(no_new_privileges.then_some(true));
    made.set_apparmor_profile(request.confinement.apparmor_profile.clone());
    made.set_selinux_label(request.confinement.process_label.clone());
    let score = request
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref())
        .map_or(0, |resources| resources.oom_score_adj);
    made.set_oom_score_adj(Some(process::oom_score_adj(score)?));
    Ok(made)
}

fn container_capabilities(
    request: &ContainerSpecRequest<'_>,
) -> Result<LinuxCapabilities, SpecError> {
    let selected = match request.privilege() {
        Privilege::Privileged => request.host.bounding.clone(),
        Privilege::Restricted => {
            let requested = request
                .security()
                .and_then(|security| security.capabilities.as_ref());
            capabilities::select(
                requested,
                &request.defaults.capabilities,
                &request.host.bounding,
            )?
        }
    };
    Ok(capabilities::sets(&selected, request.defaults.inheritable))
}

fn all_mounts(
    request: &ContainerSpecRequest<'_>,
    volumes: &PreparedVolumes,
    init: InitSystem,
) -> Vec<Mount> {
    let privilege = request.privilege();
    let rootfs = request.rootfs_writability();
    let sys = SysSource::of(request.namespaces);
    let mut mounts = fixed::kernel_mounts(sys);
    mounts.push(fixed::cgroup_mount(Writability::ReadOnly));
    mounts.extend(fixed::container_files(request.files, rootfs));
    if request.defaults.rootfs == Writability::ReadOnly {
        mounts.extend(fixed::scratch_mounts());
    }
    if privilege == Privilege::Privileged {
        fixed::make_writable(&mut mounts);
    }
    let given: Vec<&Mount> = volumes.mounts.iter().chain(request.extra_mounts).collect();
    let is_given = |destination: &str| {
        given
            .iter()
            .any(|mount| mount.destination().to_str() == Some(destination))
    };
    mounts.retain(|mount| !mount.destination().to_str().is_some_and(is_given));
    if init == InitSystem::Systemd {
        let own = systemd::mounts(request.host.cgroup.version, &is_given);
        mounts.retain(|mount| {
            !own.iter()
                .any(|new| new.destination() == mount.destination())
        });
        mounts.extend(own);
    }
    let mut rest: Vec<Mount> = given.into_iter().cloned().collect();
    rest.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(rest);
    mounts
}

fn container_linux(
    request: &ContainerSpecRequest<'_>,
    volumes: &PreparedVolumes,
    init: InitSystem,
) -> Result<Linux, SpecError> {
    let mut linux = process::empty_linux();
    let mut namespaces = request.namespaces.clone();
    if request.host.cgroup.version == CgroupVersion::V2
        && request.privilege() == Privilege::Restricted
    {
        namespaces.cgroup = Some(NamespaceSource::Private);
    }
    linux.set_namespaces(Some(namespaces.to_spec()));
    if let Some(user) = &namespaces.user {
        linux.set_uid_mappings(Some(user.uids.clone()));
        linux.set_gid_mappings(Some(user.gids.clone()));
    }
    linux.set_cgroups_path(Some(
        cgroups_path::cgroups_path(
            request.defaults.cgroup_manager,
            request.cgroup_parent,
            request.id,
        )?
        .into(),
    ));
    linux.set_rootfs_propagation(volumes.rootfs_propagation.map(str::to_owned));
    linux.set_mount_label(request.confinement.mount_label.clone());
    linux.set_seccomp(request.confinement.seccomp.clone());
    if let (Privilege::Restricted, Some(security)) = (request.privilege(), request.security()) {
        let mut masked = masked_paths::masked_paths(&security.masked_paths);
        if init == InitSystem::Systemd && request.host.cgroup.version == CgroupVersion::V1 {
            masked.push(systemd::RELEASE_AGENT.to_owned());
        }
        linux.set_masked_paths(Some(masked).filter(|paths| !paths.is_empty()));
        linux.set_readonly_paths(
            Some(security.readonly_paths.clone()).filter(|paths| !paths.is_empty()),
        );
    }
    let (nodes, mut limits) = device_rules(request);
    linux.set_devices(Some(nodes).filter(|nodes| !nodes.is_empty()));
    if let Some(requested) = request
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref())
    {
        resources::apply(
            &mut limits,
            requested,
            request.defaults.minimum_memory,
            request.host.cgroup,
        )?;
    }
    // Without one there is none, and crun before 1.9 cannot write -1.
    if request.defaults.pids_limit > 0 {
        let mut pids = LinuxPids::default();
        pids.set_limit(request.defaults.pids_limit);
        limits.set_pids(Some(pids));
    }
    linux.set_resources(Some(limits));
    Ok(linux)
}

fn device_rules(request: &ContainerSpecRequest<'_>) -> (Vec<LinuxDevice>, LinuxResources) {
    let mut nodes: Vec<LinuxDevice> = Vec::new();
    let mut rules = vec![devices::deny_all()];
    match (request.privilege(), &request.devices.host) {
        (Privilege::Privileged, Some(host)) => {
            nodes.extend(host.iter().cloned());
            rules = vec![devices::allow_all()];
        }
        _ => rules.extend(request.devices.granted.iter().map(devices::allow)),
    }
    for grant in &request.devices.granted {
        nodes.retain(|node| node.path() != grant.device.path());
        nodes.push(grant.device.clone());
    }
    let mut limits = LinuxResources::default();
    limits.set_devices(Some(rules));
    (nodes, limits)
}

#[cfg(test)]
mod tests;
