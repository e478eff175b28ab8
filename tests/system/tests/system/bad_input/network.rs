//! Networks and configurations that do not work: pods fail with the reason, and nothing stays.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::{NodeOptions, TestNode, skip_unless};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tonic::Code;

use crate::scene::{Scene, possible, refused};

/// The start of a plugin's script that fails at ADD only.
const DEL_WORKS: &str = r#"[ "$CNI_COMMAND" = DEL ] && exit 0"#;
const FAILED: &[Code] = &[
    Code::Unknown,
    Code::Internal,
    Code::Unavailable,
    Code::FailedPrecondition,
    Code::DeadlineExceeded,
];

#[tokio::test(flavor = "multi_thread")]
async fn plugins_that_are_missing_or_fail() -> Result<()> {
    skip_unless!(possible());
    let folder = tempfile::tempdir()?;
    plugin(
        folder.path(),
        "refuses",
        &format!(
            r#"{DEL_WORKS}; echo '{{"cniVersion":"1.0.0","code":7,"msg":"no room at the inn"}}'; exit 1"#
        ),
    )?;
    plugin(folder.path(), "babbles", "echo this is no json; exit 0")?;
    plugin(folder.path(), "dies", &format!("{DEL_WORKS}; kill -9 $$"))?;
    for (kind, parts) in [
        ("absent", &["absent"][..]),
        ("refuses", &["refuses", "no room at the inn"][..]),
        ("babbles", &["babbles"][..]),
        ("dies", &["dies"][..]),
    ] {
        let scene = scene_with(folder.path(), kind).await?;
        let before = scene.node.snapshot();
        let pod = scene.node.pod("network");
        refused(scene.node.client.run_pod(&pod, "").await, FAILED, parts).context(kind)?;
        scene.node.nothing_left(&before).await.context(kind)?;
        // The failed pod's name is free again.
        refused(scene.node.client.run_pod(&pod, "").await, FAILED, parts).context(kind)?;
        scene.node.finish().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_plugin_that_fails_undoes_the_earlier() -> Result<()> {
    skip_unless!(possible());
    let folder = tempfile::tempdir()?;
    let calls = folder.path().join("calls");
    let record = format!(
        r#"echo "first $CNI_COMMAND" >> {}; cat > /dev/null; echo '{{"cniVersion":"1.0.0","interfaces":[],"ips":[]}}'"#,
        calls.display()
    );
    plugin(folder.path(), "first", &record)?;
    plugin(
        folder.path(),
        "second",
        &format!(
            r#"{DEL_WORKS}; echo '{{"cniVersion":"1.0.0","code":100,"msg":"second says no"}}'; exit 1"#
        ),
    )?;
    let list =
        r#"{"cniVersion":"1.0.0","name":"two","plugins":[{"type":"first"},{"type":"second"}]}"#;
    let scene = scene_of(folder.path(), list).await?;
    refused(
        scene.node.client.run_pod(&scene.node.pod("undo"), "").await,
        FAILED,
        &["second says no"],
    )?;
    let called = std::fs::read_to_string(&calls)?;
    ensure!(
        called.contains("first ADD") && called.contains("first DEL"),
        "{called}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_undone_is_undone_after_a_restart() -> Result<()> {
    skip_unless!(possible());
    let folder = tempfile::tempdir()?;
    let (well, calls) = (folder.path().join("well"), folder.path().join("calls"));
    let script = format!(
        r#"echo "$CNI_COMMAND $CNI_CONTAINERID" >> {}; [ -e {} ] && [ "$CNI_COMMAND" = DEL ] && exit 0; exit 1"#,
        calls.display(),
        well.display()
    );
    plugin(folder.path(), "broken", &script)?;
    let mut scene = scene_with(folder.path(), "broken").await?;
    let before = scene.node.snapshot();
    let pod = scene.node.pod("undo-later");
    let answer = scene.node.client.run_pod(&pod, "").await;
    refused(answer, FAILED, &["undoing it failed too", "broken"])?;
    let called = std::fs::read_to_string(&calls)?;
    let id = called
        .lines()
        .find_map(|line| line.strip_prefix("ADD "))
        .context("an ADD")?;
    scene.node.stop().await?;
    std::fs::write(&well, "")?;
    std::fs::write(&calls, "")?;
    scene.node.start_again().await?;
    scene.node.nothing_left(&before).await?;
    let called = std::fs::read_to_string(&calls)?;
    ensure!(called.contains(&format!("DEL {id}")), "{called}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_holds_up_only_its_pod() -> Result<()> {
    skip_unless!(possible());
    let folder = tempfile::tempdir()?;
    let release = folder.path().join("release");
    let script = format!(
        "{DEL_WORKS}; while [ ! -e {} ]; do sleep 0.1; done; exit 1",
        release.display()
    );
    plugin(folder.path(), "hangs", &script)?;
    let scene = scene_with(folder.path(), "hangs").await?;
    let pod = scene.node.pod("stuck");
    let stuck = {
        let client = scene.node.client.clone();
        tokio::spawn(async move { client.run_pod(&pod, "").await })
    };
    let mut host = scene.node.pod("free");
    host_network(&mut host);
    let mut container = scene.node.container("main", &scene.image, &["true"]);
    container_on_host_network(&mut container);
    let (_, id) = scene.node.run(&host, &container, "").await?;
    ensure!(scene.node.exited(&id).await?.exit_code == 0);
    std::fs::write(&release, "")?;
    refused(stuck.await?, FAILED, &["hangs"])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn network_lists_that_make_no_sense() -> Result<()> {
    skip_unless!(possible());
    for (kind, list) in [
        ("no json", "{"),
        (
            "no name",
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}"#,
        ),
        (
            "no plugins",
            r#"{"cniVersion":"1.0.0","name":"x","plugins":[]}"#,
        ),
        (
            "no type",
            r#"{"cniVersion":"1.0.0","name":"x","plugins":[{}]}"#,
        ),
    ] {
        let scene = scene_of(Path::new("/nonexistent"), list).await?;
        let answer = scene
            .node
            .client
            .run_pod(&scene.node.pod("malformed"), "")
            .await;
        refused(answer, FAILED, &[]).context(kind)?;
        ensure!(
            scene.node.log().contains("10-test.conflist"),
            "{kind}: the log names the file"
        );
        scene.node.finish().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_are_refused() -> Result<()> {
    skip_unless!(possible());
    for (runtime_keys, tables, parts) in [
        ("read_only = \"yes\"", "", &["crio.conf", "read_only"][..]),
        ("= broken", "", &["crio.conf"][..]),
        ("conmon_cgroup = \"elsewhere\"", "", &["elsewhere"][..]),
        ("log_size_max = 12", "", &["log size max", "8192"][..]),
        (
            "default_capabilities = [\"CAP_TO_FLY\"]",
            "",
            &["CAP_TO_FLY"][..],
        ),
        (
            "",
            "[crio.runtime.workloads.x]\nactivation_annotation = \"\"\n",
            &["activation"][..],
        ),
    ] {
        let options = NodeOptions {
            runtime_keys: runtime_keys.to_owned(),
            more_tables: tables.to_owned(),
            ..Default::default()
        };
        let refusal = match TestNode::start(options).await {
            Ok(_) => anyhow::bail!("started with `{runtime_keys}{tables}`"),
            Err(error) => format!("{error:#}"),
        };
        for part in parts {
            ensure!(
                refusal.contains(part),
                "`{runtime_keys}{tables}`: no `{part}` in {refusal}"
            );
        }
    }
    Ok(())
}

fn plugin(folder: &Path, name: &str, script: &str) -> Result<()> {
    let path = folder.join(name);
    let versions = r#"if [ "$CNI_COMMAND" = VERSION ]; then echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}'; exit 0; fi"#;
    std::fs::write(&path, format!("#!/bin/sh\n{versions}\n{script}\n"))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

async fn scene_with(plugins: &Path, kind: &str) -> Result<Scene> {
    scene_of(
        plugins,
        &format!(
            r#"{{"cniVersion":"1.0.0","name":"test-{kind}","plugins":[{{"type":"{kind}"}}]}}"#
        ),
    )
    .await
}

async fn scene_of(plugins: &Path, list: &str) -> Result<Scene> {
    Scene::start_with(NodeOptions {
        network: Some(list.to_owned()),
        plugin_directories: vec![plugins.to_owned()],
        ..Default::default()
    })
    .await
}

fn host_network(pod: &mut crioxide_cri_api::v1::PodSandboxConfig) {
    let security = pod
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut());
    if let Some(options) = security.and_then(|security| security.namespace_options.as_mut()) {
        options.network = crioxide_cri_api::v1::NamespaceMode::Node.into();
    }
}

fn container_on_host_network(container: &mut crioxide_cri_api::v1::ContainerConfig) {
    let security = container
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut());
    if let Some(options) = security.and_then(|security| security.namespace_options.as_mut()) {
        options.network = crioxide_cri_api::v1::NamespaceMode::Node.into();
    }
}
