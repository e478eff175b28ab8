//! The names pods and containers have in storage, reservations and runtime records.
//!
//! Kubernetes names hold no underscores, so the parts can be told apart again.

/// The identity of a pod, as the kubelet gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodIdentity<'a> {
    /// Name of the pod object.
    pub name: &'a str,
    /// Namespace of the pod object.
    pub namespace: &'a str,
    /// Unique id of the pod object.
    pub uid: &'a str,
    /// How often the kubelet made a sandbox for it before.
    pub attempt: u32,
}

/// `k8s_<pod>_<namespace>_<uid>_<attempt>`.
#[must_use]
pub fn sandbox_name(pod: PodIdentity<'_>) -> String {
    format!(
        "k8s_{}_{}_{}_{}",
        pod.name, pod.namespace, pod.uid, pod.attempt
    )
}

/// `k8s_POD_<pod>_<namespace>_<uid>_<attempt>`: the pod's own (infra) container.
#[must_use]
pub fn infra_container_name(pod: PodIdentity<'_>) -> String {
    container_name("POD", pod.attempt, pod)
}

/// `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>` with the container's own attempt.
#[must_use]
pub fn container_name(container: &str, attempt: u32, pod: PodIdentity<'_>) -> String {
    format!(
        "k8s_{container}_{}_{}_{}_{attempt}",
        pod.name, pod.namespace, pod.uid
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_recorded_shape() {
        let pod = PodIdentity {
            name: "web",
            namespace: "default",
            uid: "11111111-1111",
            attempt: 0,
        };
        assert_eq!(sandbox_name(pod), "k8s_web_default_11111111-1111_0");
        assert_eq!(
            infra_container_name(pod),
            "k8s_POD_web_default_11111111-1111_0"
        );
        assert_eq!(
            container_name("running", 3, pod),
            "k8s_running_web_default_11111111-1111_3"
        );
    }
}
