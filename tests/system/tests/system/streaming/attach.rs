//! Sessions with a container's own process.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::TestNode;
use crioxide_test_support::skip_unless;
use crioxide_test_support::streams::CommandReader;

use super::{ALL, NEWEST, OUTPUTS, TERMINAL, attach};
use crate::scene::{Scene, possible};

async fn run(
    scene: &Scene,
    handler: &str,
    (name, script): (&str, &str),
    change: impl FnOnce(&mut v1::ContainerConfig),
) -> Result<String> {
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
    container.stdin = true;
    change(&mut container);
    Ok(node.run(&node.pod(name), &container, handler).await?.1)
}

/// Reads stdout until it holds `text`.
async fn until(reader: &mut CommandReader, text: &str) -> Result<String> {
    let mut all = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&all).into_owned();
        if so_far.contains(text) {
            return Ok(so_far);
        }
        let (channel, bytes) = reader
            .next()
            .await?
            .with_context(|| format!("it ended after {so_far:?}"))?;
        ensure!(channel == 1, "channel {channel}: {bytes:?}");
        all.extend_from_slice(&bytes);
    }
}

/// Types until the answer shows that the session is there: a session sees only what is written after it began.
pub(crate) async fn greet(node: &TestNode, id: &str, protocol: &str) -> Result<super::Command> {
    let mut session = attach(node, id, protocol, ALL).await?;
    session.writer.send(b"hello\n").await?;
    until(&mut session.reader, "hello\n").await?;
    Ok(session)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_see_everything_and_one_ends_the_input() -> Result<()> {
    skip_unless!(possible());
    several_clients("").await
}

pub(crate) async fn several_clients(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let script = "while read line; do echo \"$line\"; done; echo problem >&2; exit 4";
    let id = run(&scene, handler, ("once", script), |container| {
        container.stdin_once = true;
    })
    .await?;
    let mut first = greet(&scene.node, &id, NEWEST[0]).await?;
    let mut second = attach(&scene.node, &id, NEWEST[1], OUTPUTS).await?;
    // Until the second is there it sees nothing.
    loop {
        first.writer.send(b"again\n").await?;
        let next = tokio::time::timeout(
            std::time::Duration::from_millis(200),
            until(&mut second.reader, "again\n"),
        );
        if let Ok(seen) = next.await {
            seen?;
            break;
        }
    }
    // Orderly end of the input: the container ends, and both sessions with it.
    first.writer.end().await?;
    for session in [first, second] {
        let done = session.finish().await?;
        ensure!(
            done.stderr == b"problem\n" && done.error == r#"{"status":"Success"}"#,
            "{done:?}"
        );
    }
    ensure!(scene.node.exited(&id).await?.exit_code == 4);
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_stays_open_outlives_its_clients() -> Result<()> {
    skip_unless!(possible());
    open_input("").await
}

pub(crate) async fn open_input(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let script = "while read line; do echo \"$line\"; done";
    let id = run(&scene, handler, ("open", script), |_| {}).await?;
    for protocol in NEWEST {
        let mut session = greet(&scene.node, &id, protocol).await?;
        session.writer.send(b"last words\n").await?;
        session.writer.end().await?;
        // The session ends although the container runs on; what was answered until then is not lost.
        let done = session.finish().await?;
        ensure!(
            done.stdout == b"last words\n" && done.error == r#"{"status":"Success"}"#,
            "{done:?}"
        );
    }
    let status = scene.node.client.container_status(&id).await?;
    ensure!(status.state() == v1::ContainerState::ContainerRunning);
    // An abrupt end changes nothing either.
    drop(greet(&scene.node, &id, NEWEST[0]).await?);
    drop(greet(&scene.node, &id, NEWEST[1]).await?);
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_resized_and_left_by_keys() -> Result<()> {
    skip_unless!(possible());
    terminal("").await
}

pub(crate) async fn terminal(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let script = "while :; do read line; echo \"size $(stty size)\"; done";
    let with_terminal = |container: &mut v1::ContainerConfig| container.tty = true;
    let id = run(&scene, handler, ("tty", script), with_terminal).await?;
    for (protocol, size) in NEWEST.into_iter().zip([(132_u16, 50_u16), (80, 24)]) {
        let mut session = attach(&scene.node, &id, protocol, TERMINAL).await?;
        session.writer.resize(size.0, size.1).await?;
        // The size goes another way than what is typed: ask until it has arrived.
        loop {
            session.writer.send(b"\n").await?;
            let said = until(&mut session.reader, "size ").await?;
            let said = match said.ends_with('\n') {
                true => said,
                false => said + &until(&mut session.reader, "\n").await?,
            };
            if said.contains(&format!("size {} {}", size.1, size.0)) {
                break;
            }
        }
        session.writer.send(&[16]).await?;
        session.writer.send(&[17]).await?;
        let done = session.finish().await?;
        ensure!(done.error == r#"{"status":"Success"}"#, "{done:?}");
        let status = scene.node.client.container_status(&id).await?;
        ensure!(status.state() == v1::ContainerState::ContainerRunning);
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_container_cannot_be_attached_to() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let id = run(&scene, "", ("ended", "exit 0"), |_| {}).await?;
    scene.node.exited(&id).await?;
    let session = attach(&scene.node, &id, NEWEST[0], OUTPUTS).await?;
    let done = session.finish().await?;
    ensure!(
        done.error.contains("container is not created or running"),
        "{done:?}"
    );
    scene.node.finish().await
}
