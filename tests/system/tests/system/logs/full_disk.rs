//! The disk of a container's log takes nothing more.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{read, records};
use crate::scene::{Scene, possible};

/// Of the disk.
const SIZE: &std::ffi::CStr = c"size=1m,mode=755";
/// Of what is written to it, several times that.
const LINES: usize = 60_000;

struct Disk(PathBuf);

impl Disk {
    fn mounted(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        mount("logs", path, "tmpfs", MountFlags::NODEV, SIZE).context("mount a small disk")?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn line(number: usize) -> String {
    format!("line {number:07} of many that do not fit")
}

/// What is in the log is in whole records, in order, and was written.
fn ordered(log: &[u8], written: &[u8]) -> Result<usize> {
    let mut at = 0;
    let found = records(log)?;
    for record in &found {
        let rest = &written[at..];
        let place = if record.content.is_empty() {
            Some(0)
        } else {
            rest.windows(record.content.len())
                .position(|part| part == record.content)
        };
        let place = place.with_context(|| {
            let text = String::from_utf8_lossy(record.content);
            format!("`{text}` was not written, or before what precedes it")
        })?;
        at += place + record.content.len();
    }
    Ok(found.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_nobody_and_tears_nothing() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let pod = node.pod("full");
    let disk = Disk::mounted(&Path::new(&pod.log_directory).join("small"))?;
    let script = format!(
        "seq 1 {LINES} | awk '{{printf \"line %07d of many that do not fit\\n\", $1}}'; touch /through; \
         while [ ! -e /more ]; do sleep 0.05; done; echo after; \
         while [ ! -e /end ]; do sleep 0.05; done; exit 3"
    );
    let mut container = node.container("loud", &scene.image, &["sh", "-c", &script]);
    container.log_path = "small/loud.log".to_owned();
    let (pod_id, loud) = node.run(&pod, &container, "").await?;
    // The same monitor serves this one.
    let other = "i=0; while [ ! -e /end ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last";
    let other = node.container("other", &scene.image, &["sh", "-c", other]);
    let other = client.create(&pod_id, &other, &pod).await?;
    client.start(&other).await?;

    eventually("the writer gets through", async || {
        let done = client.exec(&loud, &["test", "-e", "/through"], 30).await?;
        ensure!(done.exit_code == 0);
        Ok(())
    })
    .await?;
    let log = disk.0.join("loud.log");
    let written: String = (1..=LINES).map(|number| line(number) + "\n").collect();
    // Full, and no half record at its end.
    let found = ordered(&read(&log)?, written.as_bytes()).context("the full disk's log")?;
    ensure!(found > 1000 && found < LINES, "{found} records");
    ensure!(client.container_status(&loud).await?.state() == v1::ContainerState::ContainerRunning);
    let other_log = Path::new(&pod.log_directory).join("other.log");
    let lines = || anyhow::Ok(records(&read(&other_log)?)?.len());
    let before = lines()?;
    eventually("the other container's log goes on", async || {
        ensure!(lines()? > before + 3);
        Ok(())
    })
    .await?;

    // Rotated while full, then the old one is deleted: the new one begins with what was owed.
    let old = disk.0.join("loud.1");
    std::fs::rename(&log, &old)?;
    let request = v1::ReopenContainerLogRequest {
        container_id: loud.clone(),
    };
    client.runtime.clone().reopen_container_log(request).await?;
    let mut whole = read(&old)?;
    std::fs::remove_file(&old)?;
    let done = client.exec(&loud, &["touch", "/more"], 30).await?;
    ensure!(done.exit_code == 0, "{done:?}");
    eventually("the log goes on", async || {
        ensure!(read(&log)?.ends_with(b" stdout F after\n"));
        Ok(())
    })
    .await?;
    whole.extend(read(&log)?);
    ordered(&whole, format!("{written}after\n").as_bytes())?;

    for id in [&loud, &other] {
        let done = client.exec(id, &["touch", "/end"], 30).await?;
        ensure!(done.exit_code == 0, "{done:?}");
    }
    ensure!(node.exited(&loud).await?.exit_code == 3);
    ensure!(node.exited(&other).await?.exit_code == 0);
    ensure!(read(&other_log)?.ends_with(b" stdout F last\n"));
    drop(disk);
    scene.node.finish().await
}
