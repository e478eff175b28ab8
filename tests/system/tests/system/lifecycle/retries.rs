//! Clients that give up at once and ask again, while what they ask for takes seconds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{NodeOptions, requirements, skip_unless};
use futures_util::StreamExt as _;
use tonic::Request;

use crate::scene::{Scene, possible};

/// What the client of a storm waits for each answer.
const DEADLINE: Duration = Duration::from_millis(50);
/// Requests under way at once.
const AT_ONCE: usize = 8;

/// How often each request is made; more by hand.
fn tries() -> usize {
    let text = std::env::var("CRIOXIDE_TEST_RETRIES");
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

/// Calls until it was called often enough and has an answer; all answers must be the same.
async fn storm<F>(call: impl Fn() -> F) -> Result<String>
where
    F: Future<Output = Result<String, tonic::Status>>,
{
    let mut answer: Option<String> = None;
    let mut made = 0;
    // A machine that is busy answers nothing within the deadline for a while.
    while answer.is_none() || made < tries() {
        ensure!(
            made < tries().max(100) * 100,
            "no answer after {made} tries"
        );
        let answers: Vec<_> = futures_util::stream::iter(0..AT_ONCE)
            .map(|_| call())
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        made += AT_ONCE;
        for id in answers.into_iter().flatten() {
            let first = answer.get_or_insert_with(|| id.clone());
            ensure!(*first == id, "two objects: {first} and {id}");
        }
    }
    println!("{made} tries");
    answer.context("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn make_one_pod_and_one_container() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    let folder = tempfile::tempdir()?;
    let (calls, created) = (folder.path().join("calls"), folder.path().join("created"));
    script(
        &folder.path().join("slow"),
        &format!(
            r#"echo "$CNI_COMMAND" >> {}; cat > /dev/null
            [ "$CNI_COMMAND" = ADD ] && sleep 1 && echo '{{"cniVersion":"1.0.0","interfaces":[],"ips":[]}}'
            exit 0"#,
            calls.display()
        ),
    )?;
    script(
        &folder.path().join("slow-runc"),
        &format!(
            r#"for word in "$@"; do [ "$word" = create ] && echo "$word" >> {} && sleep 1; done
            exec runc "$@""#,
            created.display()
        ),
    )?;
    let scene = Scene::start_with(NodeOptions {
        network: Some(r#"{"cniVersion":"1.0.0","name":"slow","plugins":[{"type":"slow"}]}"#.to_owned()),
        plugin_directories: vec![folder.path().to_owned()],
        more_tables: format!(
            "[crio.runtime.runtimes.slow]\nruntime_path = \"{0}/slow-runc\"\nruntime_root = \"{0}/root\"\nmonitor_cgroup = \"pod\"\n",
            folder.path().display()
        ),
        ..NodeOptions::default()
    })
    .await?;
    let node = &scene.node;
    let before = node.snapshot();
    let config = node.pod("storm");
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    for round in 1..=2 {
        let pod = storm(|| {
            let mut request = Request::new(v1::RunPodSandboxRequest {
                config: Some(config.clone()),
                runtime_handler: "slow".to_owned(),
            });
            request.set_timeout(DEADLINE);
            let mut runtime = node.client.runtime.clone();
            async move {
                Ok(runtime
                    .run_pod_sandbox(request)
                    .await?
                    .into_inner()
                    .pod_sandbox_id)
            }
        })
        .await
        .context("RunPodSandbox")?;
        let id = storm(|| {
            let mut request = Request::new(v1::CreateContainerRequest {
                pod_sandbox_id: pod.clone(),
                config: Some(container.clone()),
                sandbox_config: Some(config.clone()),
            });
            request.set_timeout(DEADLINE);
            let mut runtime = node.client.runtime.clone();
            async move {
                Ok(runtime
                    .create_container(request)
                    .await?
                    .into_inner()
                    .container_id)
            }
        })
        .await
        .context("CreateContainer")?;
        let count = |file: &Path, word: &str| -> Result<usize> {
            let text = std::fs::read_to_string(file)?;
            Ok(text.lines().filter(|line| *line == word).count())
        };
        ensure!(count(&calls, "ADD")? == round, "one ADD for each pod");
        ensure!(
            count(&created, "create")? == round,
            "one create for each container"
        );
        ensure!(node.client.list_pods().await?.len() == 1);
        ensure!(node.client.list_containers().await?.len() == 1);
        node.client.start(&id).await?;
        node.client.stop(&id, 0).await?;
        node.client.stop_pod(&pod).await?;
        node.client.remove_pod(&pod).await?;
        ensure!(count(&calls, "DEL")? >= round);
        // The second round has the same names.
        node.nothing_left(&before).await?;
    }
    scene.node.finish().await
}

fn script(path: &Path, body: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
