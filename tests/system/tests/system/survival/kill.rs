//! SIGKILL of the daemon at a random moment of a pod's life: afterwards each pod and container is either there as a
//! whole or gone as a whole, and the request that was cut off succeeds when it is repeated.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::NamespaceMode;
use crioxide_test_support::CriClient;
use crioxide_test_support::node::pod_namespaces;
use crioxide_test_support::skip_unless;

use crate::scene::{Scene, possible};
use crate::variants::set_namespaces;

/// How often a daemon is killed in one test.
const ROUNDS: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn at_any_moment() -> Result<()> {
    skip_unless!(possible());
    killed_at_any_moment("").await
}

pub(crate) async fn killed_at_any_moment(handler: &str) -> Result<()> {
    let mut scene = Scene::start().await?;
    // How long an undisturbed life takes, to aim within it.
    let started = std::time::Instant::now();
    life(&scene, handler, "undisturbed", NamespaceMode::Pod).await?;
    let whole = started.elapsed();
    let before = scene.node.snapshot();
    for round in 0..ROUNDS {
        let name = format!("round{round}");
        // Pods with an infra container and without.
        let pid = if round % 2 == 0 {
            NamespaceMode::Container
        } else {
            NamespaceMode::Pod
        };
        // The moments are spread over the whole life, with some chance inside each part.
        let part = whole / u32::try_from(ROUNDS)?;
        let moment = part * u32::try_from(round)? + part.mul_f64(random_fraction()?);
        {
            let disturbed = life(&scene, handler, &name, pid);
            // This is no synchronisation: any moment is right, also one after the end.
            let _ = tokio::time::timeout(moment, disturbed).await;
        }
        scene.node.kill().await?;
        scene.node.start_again().await?;
        let context = || format!("killed {moment:?} into a life of {whole:?}");
        whole_or_gone(&scene.node.client)
            .await
            .with_context(context)?;
        life(&scene, handler, &name, pid)
            .await
            .with_context(context)?;
        scene.node.remove_pods().await.with_context(context)?;
        scene
            .node
            .nothing_left(&before)
            .await
            .with_context(context)?;
    }
    scene.node.finish().await
}

/// A pod from start to end. A repetition joins what is there, as the kubelet's does: it lists first.
async fn life(scene: &Scene, handler: &str, name: &str, pid: NamespaceMode) -> Result<()> {
    let (node, client) = (&scene.node, &scene.node.client);
    for left in client.list_pods().await? {
        client
            .stop_pod(&left.id)
            .await
            .context("StopPodSandbox of a pod left")?;
        client
            .remove_pod(&left.id)
            .await
            .context("RemovePodSandbox of a pod left")?;
    }
    let mut pod = node.pod(name);
    // The same request again, uid included.
    pod.metadata.as_mut().expect("a pod has metadata").uid = name.to_owned();
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    set_namespaces(&mut pod, &mut container, &pod_namespaces(pid));
    let (pod_id, id) = node.run(&pod, &container, handler).await?;
    let done = client.exec(&id, &["true"], 30).await.context("ExecSync")?;
    ensure!(done.exit_code == 0, "{done:?}");
    client.stop(&id, 0).await.context("StopContainer")?;
    client.remove(&id).await.context("RemoveContainer")?;
    client.stop_pod(&pod_id).await.context("StopPodSandbox")?;
    client
        .remove_pod(&pod_id)
        .await
        .context("RemovePodSandbox")?;
    Ok(())
}

/// Whatever is listed has a status, and every container's pod is there.
async fn whole_or_gone(client: &CriClient) -> Result<()> {
    let pods = client.list_pods().await?;
    for pod in &pods {
        client
            .pod_status(&pod.id)
            .await
            .with_context(|| format!("status of listed pod {}", pod.id))?;
    }
    for container in client.list_containers().await? {
        client
            .container_status(&container.id)
            .await
            .context("status of a listed container")?;
        ensure!(
            pods.iter().any(|pod| pod.id == container.pod_sandbox_id),
            "a container without its pod: {container:?}"
        );
    }
    Ok(())
}

fn random_fraction() -> Result<f64> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
    Ok(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}
