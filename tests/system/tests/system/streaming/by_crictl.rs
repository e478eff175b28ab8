//! Sessions by `crictl`, whose client is the one of kubectl, over both transports.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements, skip_unless};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::scene::{Scene, possible};

const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

fn crictl(node: &TestNode, arguments: &[&str]) -> Result<Command> {
    let program = requirements::crictl().map_err(anyhow::Error::msg)?;
    let mut command = Command::new(program);
    let endpoint = format!("unix://{}", node.place().socket().display());
    command
        .args(["--runtime-endpoint", &endpoint, "--timeout", "60s"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_attach_and_port_forward() -> Result<()> {
    skip_unless!(possible(), requirements::crictl());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let serve = "mkdir /www; echo it works > /www/index.html; httpd -p 8080 -h /www; \
         while read line; do echo \"heard $line\"; done";
    let mut container = node.container("main", &scene.image, &["sh", "-c", serve]);
    container.stdin = true;
    let (pod, id) = node.run(&node.pod("crictl"), &container, "").await?;
    for transport in TRANSPORTS {
        exec(node, &id, transport).await?;
        attach(node, &id, transport).await?;
        forward(node, &pod, transport)
            .await
            .with_context(|| format!("port-forward by {transport}"))?;
    }
    scene.node.finish().await
}

async fn exec(node: &TestNode, id: &str, transport: &str) -> Result<()> {
    let script = "sha256sum; echo problem >&2; exit 9";
    let mut child = crictl(
        node,
        &[
            "exec",
            "-i",
            "--transport",
            transport,
            id,
            "sh",
            "-c",
            script,
        ],
    )?
    .spawn()?;
    let mut input = child.stdin.take().context("no stdin")?;
    let content = vec![b'y'; 5 << 20];
    input.write_all(&content).await?;
    drop(input);
    let done = child.wait_with_output().await?;
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    );
    let sum: String = {
        use sha2::Digest as _;
        let sum = sha2::Sha256::digest(&content);
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    ensure!(out.starts_with(&sum), "{transport}: {out}, {err}");
    ensure!(
        err.contains("problem") && err.contains("exit code 9"),
        "{transport}: {err}"
    );
    Ok(())
}

async fn attach(node: &TestNode, id: &str, transport: &str) -> Result<()> {
    let mut child = crictl(node, &["attach", "-i", "--transport", transport, id])?.spawn()?;
    let mut input = child.stdin.take().context("no stdin")?;
    let mut output = child.stdout.take().context("no stdout")?;
    input.write_all(b"me\n").await?;
    let mut said = vec![0; 9];
    output.read_exact(&mut said).await?;
    ensure!(said == b"heard me\n", "{said:?}");
    drop(input);
    let done = child.wait_with_output().await?;
    ensure!(
        done.status.success(),
        "{transport}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

async fn forward(node: &TestNode, pod: &str, transport: &str) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let ports = format!("{port}:8080");
    let mut child = crictl(
        node,
        &["port-forward", "--transport", transport, pod, &ports],
    )?
    .spawn()?;
    for _ in 0..5 {
        let url = format!("http://127.0.0.1:{port}/");
        eventually("the forwarded port answers", async || {
            let answer = crioxide_test_support::registry::http_client()?;
            let text = answer.get(&url).send().await?.text().await?;
            ensure!(text == "it works\n", "{text}");
            Ok(())
        })
        .await?;
    }
    child.kill().await?;
    Ok(())
}
