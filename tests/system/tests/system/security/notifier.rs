//! Forbidden system calls that pods want to hear of (`seccomp-notifier-action.crio.io`).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, TestNode, requirements, skip_unless};

use super::security;
use crate::resources::metrics::get;
use crate::scene::{Scene, possible};
use crate::smoke::crun_works_here;

#[tokio::test(flavor = "multi_thread")]
async fn builtin() -> Result<()> {
    skip_unless!(possible());
    told_counted_and_stopped("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    told_counted_and_stopped("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn crun() -> Result<()> {
    skip_unless!(possible(), requirements::program("crun"), crun_works_here());
    told_counted_and_stopped("crun").await
}

#[tokio::test(flavor = "multi_thread")]
async fn conmon() -> Result<()> {
    let programs = requirements::program("runc").and_then(|_| requirements::program("conmon"));
    skip_unless!(possible(), programs);
    told_counted_and_stopped("conmon").await
}

const ANNOTATION: &str = "seccomp-notifier-action.crio.io";
/// Makes a call that the default profile forbids until the file is there.
const LOOP: &str =
    "while [ ! -e /end ]; do swapoff /x 2>/new; mv /new /said; echo tried; sleep 0.2; done";
/// Makes two such calls.
const TWICE: &str = "swapoff /x; swapoff /y; sleep 600";

fn node_options(metrics: &Path) -> NodeOptions {
    NodeOptions {
        more_tables: format!(
            "[crio.runtime.workloads.notified]\nactivation_annotation = \"notified.example\"\n\
             allowed_annotations = [\"{ANNOTATION}\"]\n\
             [crio.metrics]\nenable_metrics = true\nmetrics_port = 0\nmetrics_socket = \"{}\"\n",
            metrics.display()
        ),
        ..NodeOptions::default()
    }
}

/// How often a forbidden call of a container was told.
fn told_of(node: &TestNode, id: &str) -> usize {
    let text = format!("Seccomp blocked syscall 'swapoff' in container {id}");
    node.log().matches(&text).count()
}

async fn output(node: &TestNode, id: &str, script: &str) -> Result<String> {
    let done = node.client.exec(id, &["sh", "-c", script], 30).await?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

async fn told_counted_and_stopped(handler: &str) -> Result<()> {
    let state = tempfile::tempdir()?;
    let metrics = state.path().join("metrics");
    let mut scene = Scene::start_with(node_options(&metrics)).await?;
    let run = async |name: &str, script: &str, action: &[&str], no_new_privs: bool| {
        let node = &scene.node;
        let mut pod = node.pod(name);
        for action in action {
            pod.annotations = [("notified.example", ""), (ANNOTATION, action)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        }
        let mut container = node.container(name, &scene.image, &["sh", "-c", script]);
        let security = security(&mut container);
        security.no_new_privs = no_new_privs;
        security.seccomp = Some(v1::SecurityProfile {
            profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
            ..Default::default()
        });
        let (_, id) = node.run(&pod, &container, handler).await?;
        anyhow::Ok((id, pod))
    };
    let (stopped, _) = run("stopped", TWICE, &["stop"], true).await?;
    let (plain, _) = run("plain", LOOP, &[], false).await?;
    let (told, pod) = run("told", LOOP, &[""], false).await?;
    let node = &mut scene.node;
    eventually("calls are told", async || {
        let count = told_of(node, &told);
        ensure!(count > 2, "{count}");
        Ok(())
    })
    .await?;
    for (id, text) in [(&told, "not implemented"), (&plain, "not permitted")] {
        eventually("the call fails", async || {
            let said = output(node, id, "cat /said").await?;
            ensure!(said.contains(text), "{said}");
            Ok(())
        })
        .await?;
    }
    ensure!(told_of(node, &plain) == 0, "its pod did not ask for it");
    let counted = get(&metrics, "/metrics")?;
    let line = counted
        .lines()
        .find(|line| line.contains("seccomp_notifier_count_total{name=\"k8s_told_told_test_"));
    let line = line.with_context(|| counted.clone())?;
    ensure!(line.contains("syscall=\"swapoff\""), "{line}");

    let status = node.exited(&stopped).await?;
    let said = (&*status.reason, &*status.message, status.exit_code);
    let expected = (
        "seccomp killed",
        "Used forbidden syscalls: swapoff (2x)",
        137,
    );
    ensure!(said == expected, "{said:?}");

    // Without the daemon nobody answers, and nobody has to.
    node.kill().await?;
    let tries = || anyhow::Ok(node.container_log(&pod, "told")?["stdout"].len());
    let before = tries()?;
    eventually("the container goes on", async || {
        ensure!(tries()? > before + 20);
        Ok(())
    })
    .await?;
    node.start_again().await?;
    let status = node.client.container_status(&stopped).await?;
    ensure!(status.reason == "seccomp killed", "{status:?}");
    let known = told_of(node, &told);
    let said = output(node, &told, "swapoff /x 2>&1; true").await?;
    ensure!(said.contains("not implemented"), "{said}");
    eventually("the call of an exec is told", async || {
        ensure!(told_of(node, &told) > known);
        Ok(())
    })
    .await?;
    for id in [&told, &plain] {
        output(node, id, "touch /end").await?;
        ensure!(node.exited(id).await?.exit_code == 0);
    }
    scene.node.finish().await
}
