//! Commands with a client at their other end.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::streams::{Refused, connect, open_spdy};
use crioxide_test_support::{requirements, skip_unless};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use super::{ALL, NEWEST, OUTPUTS, PROTOCOLS, TERMINAL, exec};
use crate::scene::held::memory;
use crate::scene::{Scene, possible, refused};

/// MiB that go through a session; more by `CRIOXIDE_TEST_STREAM_MIB`.
const MIB: usize = 8;

async fn sleeper(scene: &Scene, handler: &str) -> Result<String> {
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "3600"]);
    Ok(node.run(&node.pod("exec"), &container, handler).await?.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_gives_output_and_exit_code() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let id = sleeper(&scene, "").await?;
    for protocol in PROTOCOLS {
        let script = "echo out; echo err >&2; exit 7";
        let session = exec(&scene.node, &id, &["sh", "-c", script], protocol, OUTPUTS).await?;
        let done = session
            .finish()
            .await
            .with_context(|| format!("protocol `{protocol}`"))?;
        ensure!(
            done.stdout == b"out\n" && done.stderr == b"err\n",
            "{protocol}: {done:?}"
        );
        let by_object = protocol.contains("v4") || protocol.contains("v5");
        if by_object {
            ensure!(done.exit_code()? == 7, "{protocol}: {done:?}");
        } else {
            ensure!(
                done.error == "command terminated with non-zero exit code: exit status 7",
                "{protocol}: {done:?}"
            );
        }
        let session = exec(&scene.node, &id, &["true"], protocol, OUTPUTS).await?;
        let done = session.finish().await?;
        let success = if by_object {
            r#"{"status":"Success"}"#
        } else {
            ""
        };
        ensure!(
            done.error == success && done.stdout.is_empty() && done.stderr.is_empty(),
            "{protocol}: {done:?}"
        );
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn big_input_and_output_arrive_whole() -> Result<()> {
    skip_unless!(possible());
    big_streams("").await
}

pub(crate) async fn big_streams(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let id = sleeper(&scene, handler).await?;
    let mib = std::env::var("CRIOXIDE_TEST_STREAM_MIB")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(MIB);
    let mut piece = vec![0; 1 << 20];
    getrandom::fill(&mut piece).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
    let memory_before = memory(scene.node.daemon_pid()?)?;
    for protocol in NEWEST {
        // The command writes to both sides of its end of input, so a half-close that came too early or late would show.
        let script = "cat; printf END; printf problem >&2; exit 3";
        let session = exec(&scene.node, &id, &["sh", "-c", script], protocol, ALL).await?;
        let (mut writer, mut reader) = (session.writer, session.reader);
        let sent = piece.clone();
        let writing = tokio::spawn(async move {
            let mut sum = Sha256::new();
            for _ in 0..mib {
                sum.update(&sent);
                for part in sent.chunks(100_000) {
                    writer.send(part).await?;
                }
            }
            sum.update(b"END");
            writer.end().await?;
            anyhow::Ok((sum.finalize(), writer))
        });
        let mut sum = Sha256::new();
        let (mut count, mut errors, mut status) = (0, Vec::new(), Vec::new());
        while let Some((channel, bytes)) = reader.next().await? {
            match channel {
                1 => {
                    count += bytes.len();
                    sum.update(&bytes);
                }
                2 => errors.extend_from_slice(&bytes),
                _ => status.extend_from_slice(&bytes),
            }
        }
        let (expected, _writer) = writing.await??;
        ensure!(
            count == mib * piece.len() + 3 && sum.finalize() == expected,
            "{protocol}: {count} bytes came back"
        );
        ensure!(errors == b"problem", "{protocol}: {errors:?}");
        let status = String::from_utf8(status)?;
        ensure!(status.contains(r#""message":"3""#), "{protocol}: {status}");
    }
    let memory_after = memory(scene.node.daemon_pid()?)?;
    ensure!(
        memory_after < memory_before + 24 * 1024,
        "the daemon grew from {memory_before} to {memory_after} KiB"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_clients_size() -> Result<()> {
    skip_unless!(possible());
    in_a_terminal("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_by_runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    in_a_terminal("runc").await
}

pub(crate) async fn in_a_terminal(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let id = sleeper(&scene, handler).await?;
    for protocol in NEWEST {
        let script = "read line; stty -echo; echo \"got $line\"; \
             until stty size | grep -q '^50 132$'; do sleep 0.02; done; echo first; \
             until stty size | grep -q '^24 80$'; do sleep 0.02; done; tty; exit 5";
        let session = exec(&scene.node, &id, &["sh", "-c", script], protocol, TERMINAL).await?;
        let (mut writer, mut reader) = (session.writer, session.reader);
        writer.resize(132, 50).await?;
        writer.send(b"hello\n").await?;
        let mut output = Vec::new();
        while !String::from_utf8_lossy(&output).contains("first") {
            let (channel, bytes) = reader.next().await?.context("it ended early")?;
            ensure!(channel == 1, "channel {channel}: {bytes:?}");
            output.extend_from_slice(&bytes);
        }
        writer.resize(80, 24).await?;
        let done = reader.finish().await?;
        output.extend_from_slice(&done.stdout);
        let output = String::from_utf8(output)?;
        ensure!(
            output.contains("got hello\r\n") && output.contains("/dev/pts/"),
            "{protocol}: {output:?}"
        );
        ensure!(done.exit_code()? == 5, "{protocol}: {done:?}");
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_said() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let id = sleeper(&scene, "").await?;
    for protocol in NEWEST {
        for wanted in [OUTPUTS, TERMINAL] {
            let session = exec(node, &id, &["/no/such/program"], protocol, wanted).await?;
            let done = session.finish().await?;
            ensure!(
                done.error.contains("InternalError") && done.error.contains("/no/such/program"),
                "{protocol}: {done:?}"
            );
        }
        let done = exec(node, "no-such-container", &["true"], protocol, OUTPUTS).await?;
        let done = done.finish().await?;
        ensure!(done.error.contains("no-such-container"), "{done:?}");
    }
    let request = |container: &str, tty, stderr, stdout| {
        let request = crioxide_cri_api::v1::ExecRequest {
            container_id: container.to_owned(),
            cmd: vec!["true".to_owned()],
            tty,
            stdin: false,
            stdout,
            stderr,
        };
        let mut runtime = node.client.runtime.clone();
        async move { runtime.exec(request).await }
    };
    let invalid = [Code::InvalidArgument];
    let answer = request("", false, true, true).await;
    refused(answer, &invalid, &["missing required container_id"])?;
    let answer = request(&id, true, true, true).await;
    refused(answer, &invalid, &["tty and stderr cannot both be true"])?;
    let answer = request(&id, false, false, false).await;
    refused(answer, &invalid, &["one of stdin, stdout, or stderr"])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_good_once() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let id = sleeper(&scene, "").await?;
    let status = async |url: &str, protocols: &[&str]| -> Result<u16> {
        match open_spdy(connect(url, None).await?, protocols).await {
            Ok(_) => Ok(101),
            Err(error) => Ok(error.downcast::<Refused>()?.status),
        }
    };
    let url = node.client.exec_url(&id, &["true"], OUTPUTS).await?;
    ensure!(url.starts_with("http://127.0.0.1:"), "{url}");
    let (base, token) = url.rsplit_once('/').context("no token")?;
    ensure!(base.ends_with("/exec") && token.len() == 8, "{url}");
    let current = ["v4.channel.k8s.io"];
    ensure!(status(&format!("{base}/AAAAAAAA"), &current).await? == 404);
    ensure!(status(&url, &current).await? == 101);
    ensure!(status(&url, &current).await? == 404);
    // It is for its own kind of session only, and used up by any try.
    let url = node.client.exec_url(&id, &["true"], OUTPUTS).await?;
    ensure!(status(&url.replace("/exec/", "/attach/"), &current).await? == 404);
    ensure!(status(&url, &current).await? == 404);
    let url = node.client.exec_url(&id, &["true"], OUTPUTS).await?;
    ensure!(status(&url, &["v9.channel.k8s.io"]).await? == 403);
    scene.node.finish().await
}

/// What a command left behind holds its output open; the session ends with the command all the same.
#[tokio::test(flavor = "multi_thread")]
async fn something_left_behind_holds_nobody_up() -> Result<()> {
    skip_unless!(possible());
    left_behind("").await
}

pub(crate) async fn left_behind(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let id = sleeper(&scene, handler).await?;
    for protocol in NEWEST {
        let script = "sleep 3600 & echo started";
        let session = exec(&scene.node, &id, &["sh", "-c", script], protocol, OUTPUTS).await?;
        let done = session.finish().await?;
        ensure!(
            done.stdout == b"started\n" && done.exit_code()? == 0,
            "{done:?}"
        );
    }
    scene.node.finish().await
}
