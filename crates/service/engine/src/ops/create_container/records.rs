//! What is written down about a container.

use crioxide_cri_api::v1;
use crioxide_node_records::{
    ContainerAnnotations, ContainerState, StorageMetadata,
    annotations::values::Volume,
    container_state::{ContainerStatus, MonitorProcess, OCI_STATE_VERSION},
    go_time,
};
use crioxide_runtime_spec::{resources, stop_signal};
use oci_spec::runtime::Spec;

use super::plan::Plan;
use crate::ports::{ContainerProcess, CreateProcess, Labels, NewRecord, RecordDirs};

pub(super) fn new_record(plan: &Plan, created: i64, labels: &Labels) -> NewRecord {
    NewRecord {
        id: plan.id.clone(),
        names: vec![plan.name.clone()],
        image: Some(plan.image.id.clone()),
        metadata: StorageMetadata {
            pod_name: plan.pod.info.name.clone(),
            pod_id: plan.pod.id.to_string(),
            image_name: plan.image_text.clone(),
            image_id: plan.image.id.to_string(),
            container_name: plan.name.clone(),
            metadata_name: plan.metadata.name.clone(),
            created_at: created / 1_000_000_000,
            attempt: plan.metadata.attempt,
            privileged: plan.privileged,
            mount_label: labels.mount.clone(),
            ..StorageMetadata::default()
        },
        user: plan.pod.user(),
        labels: labels.clone(),
    }
}

pub(super) fn create_process(
    plan: &Plan,
    dirs: &RecordDirs,
    runtime: &str,
    spec: &Spec,
) -> CreateProcess {
    CreateProcess {
        pod: plan.pod.id.clone(),
        id: plan.id.clone(),
        name: plan.name.clone(),
        handler: runtime.to_owned(),
        dirs: dirs.clone(),
        cgroups_path: crate::container::cgroups_path(spec),
        log_path: plan.log_path.clone(),
        terminal: plan.config.tty,
        stdin: plan.config.stdin,
        stdin_once: plan.config.stdin_once,
    }
}

pub(super) fn annotations(
    plan: &Plan,
    rootfs: &std::path::Path,
    volumes: Vec<Volume>,
    created: i64,
) -> ContainerAnnotations {
    let info = &plan.pod.info;
    let requested = plan.config.stop_signal();
    let signal = stop_signal::choose(requested, &plan.image.config.stop_signal);
    let given =
        requested != v1::Signal::RuntimeDefault || !plan.image.config.stop_signal.is_empty();
    let security = plan
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let profile = security.and_then(|security| security.seccomp.as_ref());
    ContainerAnnotations {
        id: plan.id.to_string(),
        name: plan.name.clone(),
        sandbox_id: plan.pod.id.to_string(),
        sandbox_name: info.name.clone(),
        log_path: plan.log_path.to_string_lossy().into_owned(),
        created: go_time::from_unix_nanoseconds(created),
        metadata: (&plan.metadata).into(),
        labels: plan.config.labels.clone().into_iter().collect(),
        annotations: plan.config.annotations.clone().into_iter().collect(),
        inherited: info.annotations.clone(),
        resolv_path: info.resolv_path.clone(),
        mount_point: rootfs.to_string_lossy().into_owned(),
        seccomp_profile: profile.map(seccomp_text).unwrap_or_default(),
        image: plan.image_text.clone(),
        image_name: plan.image.name.clone(),
        image_ref: plan.image.id.to_string(),
        image_repo_digests: plan.image.repo_digests.clone(),
        ips: info.ips.clone(),
        tty: plan.config.tty,
        stdin: plan.config.stdin,
        stdin_once: plan.config.stdin_once,
        volumes,
        platform_runtime_path: plan.platform_program.clone(),
        stop_signal: given.then(|| signal.to_string()),
    }
}

fn seccomp_text(profile: &v1::SecurityProfile) -> String {
    match profile.profile_type() {
        v1::security_profile::ProfileType::RuntimeDefault => "RuntimeDefault".to_owned(),
        v1::security_profile::ProfileType::Unconfined => "Unconfined".to_owned(),
        v1::security_profile::ProfileType::Localhost => profile.localhost_ref.clone(),
    }
}

/// Without a process for one that is restored at its start.
pub(super) fn created_state(
    plan: &Plan,
    dirs: &RecordDirs,
    process: Option<&ContainerProcess>,
    info: &ContainerAnnotations,
    created: i64,
) -> ContainerState {
    let state = ContainerState {
        oci_version: OCI_STATE_VERSION.to_owned(),
        id: plan.id.to_string(),
        status: ContainerStatus::Created,
        bundle: dirs.run.to_string_lossy().into_owned(),
        annotations: info.to_map(),
        created: go_time::from_unix_nanoseconds(created),
        ..ContainerState::default()
    };
    match (process, &plan.checkpoint) {
        (Some(process), _) => has_process(state, process),
        (None, Some(checkpoint)) => ContainerState {
            restored: true,
            checkpointed_time: checkpoint.taken(),
            ..state
        },
        (None, None) => state,
    }
}

/// A state with the numbers of a process.
pub(crate) fn has_process(state: ContainerState, process: &ContainerProcess) -> ContainerState {
    ContainerState {
        pid: process.init.pid,
        init_pid: process.init.pid,
        init_start_time: process.init.start_time.clone(),
        container_monitor_process: Some(MonitorProcess {
            pid: process.monitor.pid,
            start_time: process.monitor.start_time.clone(),
        }),
        ..state
    }
}

/// The limits that a spec comes to, as CRI states them.
pub(crate) fn cri_resources(spec: &Spec) -> v1::LinuxContainerResources {
    let oom_score_adj = spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::oom_score_adj);
    let limits = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    limits
        .map(|limits| resources::to_cri(limits, oom_score_adj))
        .unwrap_or_default()
}
