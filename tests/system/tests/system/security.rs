//! Each field of the security context and of mounts, seen from inside a container.

mod apparmor;
mod hostile;
mod images;
mod limits;
mod mounts;
mod notifier;
mod process;
mod selinux;
pub(crate) mod user_namespaces;

use anyhow::{Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::TestNode;

/// The security context of a container of the tests.
pub(crate) fn security(
    container: &mut v1::ContainerConfig,
) -> &mut v1::LinuxContainerSecurityContext {
    let linux = container.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

/// The security context of a pod of the tests.
pub(crate) fn pod_security(pod: &mut v1::PodSandboxConfig) -> &mut v1::LinuxSandboxSecurityContext {
    let linux = pod.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

/// What a script prints in a running container; it must succeed.
pub(crate) async fn output(node: &TestNode, container: &str, script: &str) -> Result<String> {
    let done = node
        .client
        .exec(container, &["sh", "-c", script], 60)
        .await?;
    let (text, errors) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    );
    ensure!(
        done.exit_code == 0,
        "`{script}` ended with {}: {text}{errors}",
        done.exit_code
    );
    Ok(text.trim().to_owned())
}

/// Fails unless a script ends with a failure whose message holds `part`.
pub(crate) async fn denied(
    node: &TestNode,
    container: &str,
    script: &str,
    part: &str,
) -> Result<()> {
    let done = node
        .client
        .exec(container, &["sh", "-c", script], 60)
        .await?;
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(
        done.exit_code != 0 && errors.contains(part),
        "`{script}` was not denied with `{part}`: exit code {}, {errors}",
        done.exit_code
    );
    Ok(())
}
