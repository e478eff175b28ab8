//! Requests as the kubelet makes them.

use crioxide_cri_api::v1;
use crioxide_engine::Engine;
use crioxide_names::{ContainerId, PodId};

/// A pod whose containers have PID namespaces of their own.
pub(crate) fn pod(name: &str) -> v1::PodSandboxConfig {
    pod_with_pid(name, v1::NamespaceMode::Container)
}

/// A pod with one PID namespace, and so with an infra container.
pub(crate) fn pod_with_infra(name: &str) -> v1::PodSandboxConfig {
    pod_with_pid(name, v1::NamespaceMode::Pod)
}

fn pod_with_pid(name: &str, pid: v1::NamespaceMode) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: "uid".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    pid: pid.into(),
                    ..v1::NamespaceOption::default()
                }),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..v1::PodSandboxConfig::default()
    }
}

/// A container of the pod called `pod_name`.
pub(crate) fn container(pod: &PodId, pod_name: &str) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        pod_sandbox_id: pod.to_string(),
        config: Some(v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "main".to_owned(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: "busybox".to_owned(),
                ..v1::ImageSpec::default()
            }),
            log_path: "main.log".to_owned(),
            mounts: vec![v1::Mount {
                container_path: "/image".to_owned(),
                image: Some(v1::ImageSpec {
                    image: "busybox".to_owned(),
                    ..v1::ImageSpec::default()
                }),
                ..v1::Mount::default()
            }],
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        pid: v1::NamespaceMode::Container.into(),
                        ..v1::NamespaceOption::default()
                    }),
                    ..v1::LinuxContainerSecurityContext::default()
                }),
                ..v1::LinuxContainerConfig::default()
            }),
            ..v1::ContainerConfig::default()
        }),
        sandbox_config: Some(self::pod(pod_name)),
    }
}

/// A pod with one created container.
pub(crate) async fn created(engine: &Engine) -> (PodId, ContainerId) {
    let pod = engine
        .run_pod(pod("pod"), String::new())
        .await
        .expect("run the pod");
    let id = engine.create_container(container(&pod, "pod")).await;
    (pod, id.expect("create the container"))
}

/// State and exit code of a container.
pub(crate) fn state(engine: &Engine, id: &ContainerId) -> (v1::ContainerState, i32) {
    let status = engine.container_status(id.as_str(), false).expect("status");
    let status = status.status.expect("a status");
    (status.state(), status.exit_code)
}
