//! At full speed, in every shape, while it is rotated.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{TestNode, requirements, skip_unless};
use sha2::Digest as _;

use super::{content, noise, read};
use crate::scene::{Scene, possible};

/// Megabytes of one stream's output; the long version sets it.
const MEGABYTES: &str = "CRIOXIDE_TEST_LOG_MB";

fn megabytes() -> usize {
    let given = std::env::var(MEGABYTES).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Short and empty lines, lines of a megabyte, binary bytes, and megabytes without a newline, over and over; the end
/// comes in the middle of a line.
fn payload(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + (4 << 20));
    let plain = |count: usize, seed: u64| -> Vec<u8> {
        let noise = noise(seed, count);
        noise.into_iter().map(|byte| b' ' + byte % 95).collect()
    };
    let mut round = seed;
    while bytes.len() < length {
        round += 2;
        for number in 0..2000 {
            bytes.extend_from_slice(format!("line {number} of round {round}\n").as_bytes());
        }
        bytes.extend_from_slice(b"\n\n\r\n \n");
        bytes.extend(plain((1 << 20) - 1, round));
        bytes.push(b'\n');
        // A newline every 256 bytes or so, and every other byte there is.
        bytes.extend(noise(round, 1 << 20));
        bytes.extend(plain(2 << 20, round + 1));
    }
    bytes.truncate(length - 7);
    bytes.extend_from_slice(b"the end");
    bytes
}

fn equal(what: &str, written: &[u8], logged: &[u8]) -> Result<()> {
    let [written_sum, logged_sum] = [written, logged].map(sha2::Sha256::digest);
    if written_sum == logged_sum {
        return Ok(());
    }
    let differs = written.iter().zip(logged).position(|(a, b)| a != b);
    anyhow::bail!(
        "{what}: {} bytes written, {} logged, first difference at {differs:?}",
        written.len(),
        logged.len()
    )
}

fn with_files(node: &TestNode, container: &mut v1::ContainerConfig) {
    container.mounts.push(v1::Mount {
        container_path: "/files".to_owned(),
        host_path: node.place().base().join("files").display().to_string(),
        readonly: true,
        ..Default::default()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost() -> Result<()> {
    skip_unless!(possible());
    writer_and_rotation("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_under_conmon() -> Result<()> {
    skip_unless!(
        possible(),
        requirements::program("conmon"),
        requirements::program("runc")
    );
    writer_and_rotation("conmon").await
}

/// Both streams at once, as fast as they go, and the log renamed and opened again all the time.
async fn writer_and_rotation(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let files = node.place().base().join("files");
    std::fs::create_dir(&files)?;
    let out = payload(1, megabytes() << 20);
    let err = payload(2, megabytes() << 19);
    std::fs::write(files.join("out"), &out)?;
    std::fs::write(files.join("err"), &err)?;
    let pod = node.pod("torrent");
    // However fast the writing is, it is not over before there were a few rotations.
    let script = "cat /files/err >&2 & cat /files/out; wait; \
        until test -e /files/rotated; do sleep 0.02; done";
    let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
    with_files(node, &mut container);
    let (_, id) = node.run(&pod, &container, handler).await?;
    let log = PathBuf::from(&pod.log_directory).join("main.log");
    let mut parts = Vec::new();
    loop {
        let status = node.client.container_status(&id).await?;
        if status.state() == v1::ContainerState::ContainerExited {
            ensure!(status.exit_code == 0, "{status:?}");
            break;
        }
        let part = log.with_extension(parts.len().to_string());
        std::fs::rename(&log, &part)?;
        parts.push(part);
        if parts.len() == 5 {
            std::fs::write(files.join("rotated"), "")?;
        }
        let request = v1::ReopenContainerLogRequest {
            container_id: id.clone(),
        };
        // The container may end between the look and this call; nobody opens the log then.
        if let Err(status) = node
            .client
            .runtime
            .clone()
            .reopen_container_log(request)
            .await
        {
            let now = node.client.container_status(&id).await?;
            ensure!(
                now.state() == v1::ContainerState::ContainerExited,
                "{status}"
            );
            break;
        }
    }
    ensure!(
        parts.len() > 3,
        "it was over after {} rotations",
        parts.len()
    );
    eprintln!("{} rotations", parts.len());
    if log.exists() {
        parts.push(log);
    }
    let mut whole = Vec::new();
    for part in &parts {
        whole.extend(read(part)?);
    }
    equal("stdout", &out, &content(&whole, "stdout")?)?;
    equal("stderr", &err, &content(&whole, "stderr")?)?;
    scene.node.finish().await
}

/// When the end is reported, the log is complete: what is written just before the end is not waited for later.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_byte_is_there_with_the_exit() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let files = node.place().base().join("files");
    std::fs::create_dir(&files)?;
    let pod = node.pod("brief");
    let pod_id = node.client.run_pod(&pod, "").await?;
    // Less than a pipe holds, exactly what it holds, and more.
    for (number, length) in [1, 7, 4096, 8192, 65_535, 65_536, 65_537, 200_000]
        .into_iter()
        .enumerate()
    {
        let written = noise(number as u64 + 1, length);
        let name = format!("take{number}");
        std::fs::write(files.join(&name), &written)?;
        let path = format!("/files/{name}");
        let mut container = node.container(&name, &scene.image, &["cat", &path]);
        with_files(node, &mut container);
        let id = node.client.create(&pod_id, &container, &pod).await?;
        node.client.start(&id).await.context("StartContainer")?;
        let status = node.exited(&id).await?;
        ensure!(status.exit_code == 0, "{status:?}");
        let log = read(&PathBuf::from(status.log_path))?;
        equal(&name, &written, &content(&log, "stdout")?)?;
    }
    scene.node.finish().await
}
