//! The spec of a pod's own (infra) container.
//!
//! Most pods have no infra process. Their record is written all the same, because it is what the pod is restored from.

use oci_spec::runtime::{LinuxCpu, LinuxResources, Spec};

use crate::mounts::fixed::{self, Writability};
use crate::mounts::volumes;
use crate::request::SandboxSpecRequest;
use crate::spec_error::SpecError;
use crate::user::ResolvedUser;
use crate::{capabilities, cgroups_path, devices, environment, process};

/// CPU weight of a process that only waits, as cgroup v1 shares.
const PAUSE_CPU_SHARES: u64 = 2;

/// Makes the spec of a pod's own container.
///
/// # Errors
/// Fails if the parent cgroup is not one of the configured manager.
pub fn sandbox_spec(request: &SandboxSpecRequest<'_>) -> Result<Spec, SpecError> {
    let env = vec![
        environment::DEFAULT_PATH.to_owned(),
        "TERM=xterm".to_owned(),
    ];
    let mut made = process::base(request.command.to_vec(), env, "/".into());
    made.set_user(process::user(&pause_user(request), None));
    made.set_capabilities(Some(capabilities::sets(
        &request.defaults.capabilities.iter().copied().collect(),
        request.defaults.inheritable,
    )));
    made.set_oom_score_adj(Some(0));
    made.set_apparmor_profile(request.confinement.apparmor_profile.clone());
    made.set_selinux_label(request.confinement.process_label.clone());
    let mut spec = process::empty_spec(request.hostname);
    spec.set_process(Some(made));
    spec.set_root(Some(process::root(request.rootfs, Writability::ReadOnly)));
    let sys = fixed::SysSource::of(request.namespaces);
    let mut mounts = fixed::kernel_mounts(sys);
    mounts.extend(fixed::sandbox_files(request.files));
    spec.set_mounts(Some(mounts));
    spec.set_annotations(Some(request.annotations.clone().into_iter().collect()));
    spec.set_linux(Some(sandbox_linux(request)?));
    Ok(spec)
}

fn sandbox_linux(request: &SandboxSpecRequest<'_>) -> Result<oci_spec::runtime::Linux, SpecError> {
    let mut linux = process::empty_linux();
    linux.set_namespaces(Some(request.namespaces.to_spec()));
    if let Some(user) = &request.namespaces.user {
        linux.set_uid_mappings(Some(user.uids.clone()));
        linux.set_gid_mappings(Some(user.gids.clone()));
    }
    if !request.sysctls.is_empty() {
        linux.set_sysctl(Some(request.sysctls.clone().into_iter().collect()));
    }
    linux.set_cgroups_path(Some(
        cgroups_path::cgroups_path(
            request.defaults.cgroup_manager,
            request.cgroup_parent,
            request.id,
        )?
        .into(),
    ));
    linux.set_mount_label(request.confinement.mount_label.clone());
    linux.set_seccomp(request.confinement.seccomp.clone());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(PAUSE_CPU_SHARES));
    if !request.cpuset.is_empty() {
        cpu.set_cpus(Some(request.cpuset.to_owned()));
    }
    let mut limits = LinuxResources::default();
    limits.set_devices(Some(vec![devices::deny_all()]));
    limits.set_cpu(Some(cpu));
    linux.set_resources(Some(limits));
    Ok(linux)
}

/// The pause process runs as the pod asks, by numbers only: its root file system has no accounts.
fn pause_user(request: &SandboxSpecRequest<'_>) -> ResolvedUser {
    let security = request
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let id = |value: Option<&crioxide_cri_api::v1::Int64Value>| {
        value
            .and_then(|value| u32::try_from(value.value).ok())
            .unwrap_or(0)
    };
    ResolvedUser {
        uid: id(security.and_then(|security| security.run_as_user.as_ref())),
        gid: id(security.and_then(|security| security.run_as_group.as_ref())),
        ..ResolvedUser::default()
    }
}

/// The user namespace mappings of a CRI request.
#[must_use]
pub fn id_mappings(
    requested: &[crioxide_cri_api::v1::IdMapping],
) -> Vec<oci_spec::runtime::LinuxIdMapping> {
    requested.iter().map(volumes::id_mapping).collect()
}

#[cfg(test)]
mod tests;
