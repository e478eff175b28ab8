//! Connections to ports of pods.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_streaming::spdy::{Control, Received};
use crioxide_test_support::streams::{SpdyReader, SpdyWriter, connect, open_spdy, open_websocket};
use crioxide_test_support::{TestNode, skip_unless};

use crate::scene::held::Held;
use crate::scene::{Scene, possible};

/// What came on the streams of a connection.
#[derive(Debug, Default)]
struct Arrived {
    data: HashMap<u32, Vec<u8>>,
    ended: Vec<u32>,
    reset: Vec<u32>,
}

impl Arrived {
    async fn until(&mut self, reader: &mut SpdyReader, done: impl Fn(&Self) -> bool) -> Result<()> {
        while !done(self) {
            match reader.next().await?.context("the server broke off")? {
                Received::Data { stream, bytes, fin } => {
                    self.data
                        .entry(stream)
                        .or_default()
                        .extend_from_slice(&bytes);
                    if fin {
                        self.ended.push(stream);
                    }
                }
                Received::Control(Control::Reset { stream, .. }) => self.reset.push(stream),
                Received::Control(_) => {}
            }
        }
        Ok(())
    }

    fn over(&self, stream: u32) -> bool {
        self.ended.contains(&stream) || self.reset.contains(&stream)
    }

    fn of(&self, stream: u32) -> &[u8] {
        self.data.get(&stream).map_or(&[], Vec::as_slice)
    }
}

async fn open(node: &TestNode, pod: &str) -> Result<(SpdyWriter, SpdyReader)> {
    let url = node.client.port_forward_url(pod, &[]).await?;
    open_spdy(connect(&url, None).await?, &["portforward.k8s.io"]).await
}

/// A pair of streams to a port: error and data.
async fn pair(writer: &mut SpdyWriter, port: u16, request: &str) -> Result<(u32, u32)> {
    let port = port.to_string();
    let mut headers = vec![("port", port.as_str()), ("streamtype", "error")];
    if !request.is_empty() {
        headers.push(("requestid", request));
    }
    let error = writer.open(&headers).await?;
    writer.end(error).await?;
    headers[1] = ("streamtype", "data");
    Ok((error, writer.open(&headers).await?))
}

/// What a port of a pod answers to `sent`, until that is all or the connection ends.
pub(crate) async fn answer(
    node: &TestNode,
    pod: &str,
    port: u16,
    sent: &[u8],
    all: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>> {
    let (mut writer, mut reader) = open(node, pod).await?;
    let (error, data) = pair(&mut writer, port, "1").await?;
    let mut arrived = Arrived::default();
    writer.send(data, sent).await?;
    let answered = |a: &Arrived| a.over(error) || a.over(data) || all(a.of(data));
    arrived.until(&mut reader, answered).await?;
    let told = String::from_utf8_lossy(arrived.of(error));
    ensure!(told.is_empty(), "{told}");
    Ok(arrived.of(data).to_vec())
}

async fn echo_pod(scene: &Scene, name: &str, host: bool) -> Result<(String, u16)> {
    let node = &scene.node;
    // In the host's network the port has to be one that nobody has.
    let port = if host {
        std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port()
    } else {
        9000
    };
    let mut pod = node.pod(name);
    let serve = format!("exec nc -ll -p {port} -e cat");
    let mut container = node.container("main", &scene.image, &["sh", "-c", &serve]);
    if host {
        let network = |options: &mut Option<v1::NamespaceOption>| {
            if let Some(options) = options {
                options.network = v1::NamespaceMode::Node.into();
            }
        };
        let linux = pod.linux.as_mut().context("no linux")?;
        let context = linux.security_context.as_mut().context("no context")?;
        network(&mut context.namespace_options);
        let linux = container.linux.as_mut().context("no linux")?;
        let context = linux.security_context.as_mut().context("no context")?;
        network(&mut context.namespace_options);
    }
    let (pod, _) = node.run(&pod, &container, "").await?;
    // It listens a moment after its start.
    crioxide_test_support::waiting::eventually("the port answers", async || {
        let answer = answer(node, &pod, port, b"x", |bytes| !bytes.is_empty()).await?;
        ensure!(answer == b"x", "{answer:?}");
        Ok(())
    })
    .await?;
    Ok((pod, port))
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_of_one_session() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (pod, port) = echo_pod(&scene, "forward", false).await?;
    let (mut writer, mut reader) = open(&scene.node, &pod).await?;
    ensure!(writer.protocol.as_deref() == Some("portforward.k8s.io"));
    let mut arrived = Arrived::default();
    let content = |data: u32| format!("{data};").repeat(20_000).into_bytes();
    let mut pairs = Vec::new();
    for number in 0..20 {
        // Without a name pairs go by the numbers of their streams.
        let name = match number {
            0 => String::new(),
            _ => format!("request-{number}"),
        };
        let (error, data) = pair(&mut writer, port, &name).await?;
        writer.send(data, &content(data)).await?;
        // The server in the pod resets what it has no room for: one is taken before the next comes. All stay open.
        let answered = |a: &Arrived| a.over(error) || !a.of(data).is_empty();
        arrived.until(&mut reader, answered).await?;
        pairs.push((error, data));
    }
    for (_, data) in &pairs {
        writer.end(*data).await?;
    }
    // A port without a listener, in the same session; the others are not harmed.
    let (refused, dead) = pair(&mut writer, 1, "dead").await?;
    arrived
        .until(&mut reader, |a| {
            pairs
                .iter()
                .all(|(error, data)| a.over(*error) && a.over(*data))
                && a.over(refused)
                && a.over(dead)
        })
        .await?;
    for (error, data) in &pairs {
        ensure!(
            arrived.of(*data) == content(*data) && arrived.of(*error).is_empty(),
            "stream {data}: {} bytes, {:?}",
            arrived.of(*data).len(),
            arrived.of(*error)
        );
    }
    let said = String::from_utf8_lossy(arrived.of(refused)).into_owned();
    ensure!(
        said.contains("error forwarding port 1 to pod") && said.contains("refused"),
        "{said}"
    );
    // Nonsense is refused stream by stream.
    for headers in [
        &[("streamtype", "data")][..],
        &[("streamtype", "data"), ("port", "0")],
        &[("streamtype", "data"), ("port", "70000")],
        &[("streamtype", "music"), ("port", "80")],
    ] {
        let stream = writer.open(headers).await?;
        arrived
            .until(&mut reader, |a| a.reset.contains(&stream))
            .await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_reset_by_either_side() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (pod, port) = echo_pod(&scene, "reset", false).await?;
    let (mut writer, mut reader) = open(&scene.node, &pod).await?;
    let mut arrived = Arrived::default();
    let before = Held::now(&scene.node).await?;
    for number in 0..100 {
        let (error, data) = pair(&mut writer, port, &format!("r{number}")).await?;
        writer.send(data, b"something").await?;
        if number % 2 == 0 {
            arrived
                .until(&mut reader, |a| !a.of(data).is_empty())
                .await?;
        }
        writer.reset(data).await?;
        // The server gives the connection up, which is no error.
        arrived.until(&mut reader, |a| a.over(error)).await?;
        ensure!(arrived.of(error).is_empty(), "{:?}", arrived.of(error));
    }
    // The session still works.
    let (_, data) = pair(&mut writer, port, "last").await?;
    writer.send(data, b"hello").await?;
    arrived
        .until(&mut reader, |a| a.of(data) == b"hello")
        .await?;
    drop((writer, reader));
    // Clients that go with their connections open.
    for _ in 0..20 {
        let (mut writer, mut reader) = open(&scene.node, &pod).await?;
        for number in 0..5 {
            let (_, data) = pair(&mut writer, port, &format!("a{number}")).await?;
            writer.send(data, b"something").await?;
            arrived
                .until(&mut reader, |a| !a.of(data).is_empty())
                .await?;
        }
        arrived = Arrived::default();
    }
    let after = before.again(&scene.node).await?;
    eprintln!("200 connections: {before:?}, then {after:?}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_the_hosts_network() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    echo_pod(&scene, "host", true).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_a_websocket() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (pod, port) = echo_pod(&scene, "channels", false).await?;
    for protocol in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""] {
        let url = scene
            .node
            .client
            .port_forward_url(&pod, &[port.into(), 1])
            .await?;
        let (mut writer, mut reader) = open_websocket(connect(&url, None).await?, protocol).await?;
        let mut arrived: HashMap<u8, Vec<u8>> = HashMap::new();
        writer.send(0, b"hello").await?;
        let expected = [&port.to_le_bytes()[..], b"hello"].concat();
        while arrived.get(&0) != Some(&expected) || arrived.get(&3).is_none_or(|e| e.len() < 3) {
            let (channel, bytes) = reader.next().await?.context("it ended early")?;
            arrived
                .entry(channel)
                .or_default()
                .extend_from_slice(&bytes);
        }
        ensure!(arrived[&1] == port.to_le_bytes() && arrived[&2] == [1, 0]);
        let said = String::from_utf8_lossy(&arrived[&3][2..]).into_owned();
        ensure!(said.contains("error forwarding port 1"), "{said}");
    }
    scene.node.finish().await
}
