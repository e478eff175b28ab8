//! `log_to_journald`: the system's journal has a copy of what containers write.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, requirements, skip_unless};

use crate::scene::{Scene, possible};

fn journal() -> Result<(), String> {
    requirements::program("journalctl")?;
    match Path::new("/run/systemd/journal/socket").exists() {
        true => Ok(()),
        false => Err("needs systemd's journal".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn has_a_copy() -> Result<()> {
    skip_unless!(possible(), journal());
    copied("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn has_a_copy_under_conmon() -> Result<()> {
    let programs = requirements::program("runc").and_then(|_| requirements::program("conmon"));
    skip_unless!(possible(), journal(), programs);
    copied("conmon").await
}

async fn copied(handler: &str) -> Result<()> {
    let options = NodeOptions {
        runtime_keys: "log_to_journald = true".to_owned(),
        ..NodeOptions::default()
    };
    let scene = Scene::start_with(options).await?;
    let node = &scene.node;
    let pod = node.pod("journal");
    let script = "echo said; echo complained >&2; echo done";
    let container = node.container("main", &scene.image, &["sh", "-c", script]);
    let (_, id) = node.run(&pod, &container, handler).await?;
    ensure!(node.exited(&id).await?.exit_code == 0);
    let log = node.container_log(&pod, "main")?;
    ensure!(log["stdout"] == "said\ndone\n", "{log:?}");
    // Both streams have their own pipe, and so no order.
    let mut expected = [("6", "said"), ("6", "done"), ("3", "complained")]
        .map(|(priority, text)| (priority.to_owned(), text.to_owned()));
    expected.sort();
    eventually("the journal has it", async || {
        let mut found = messages(&id)?;
        found.sort();
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

/// Priorities and texts of a container's messages.
fn messages(id: &str) -> Result<Vec<(String, String)>> {
    let done = Command::new("journalctl")
        .args(["--output", "json", "--no-pager"])
        .arg(format!("CONTAINER_ID_FULL={id}"))
        .output()
        .context("journalctl")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut found = Vec::new();
    for line in text.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context(line.to_owned())?;
        let field = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        ensure!(
            field("CONTAINER_NAME").starts_with("k8s_main_journal_test_")
                && field("CONTAINER_ID") == id[..12],
            "{line}"
        );
        // conmon's messages have their line break.
        let text = field("MESSAGE").trim_end().to_owned();
        found.push((field("PRIORITY"), text));
    }
    Ok(found)
}
