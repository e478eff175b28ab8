//! Pods on storage drivers other than overlay.

use anyhow::{Result, ensure};
use crioxide_test_support::{NodeOptions, TestNode, requirements, skip_unless};
use std::path::PathBuf;
use std::process::Command;

use crate::scene::{Scene, possible};
use crate::security::user_namespaces::map_users;

async fn output(node: &TestNode, id: &str, script: &str) -> Result<String> {
    let done = node.client.exec(id, &["sh", "-c", script], 30).await?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.exit_code == 0, "{script}: {errors}");
    Ok(String::from_utf8(done.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_vfs() -> Result<()> {
    skip_unless!(possible());
    a_pod_on("vfs", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_btrfs() -> Result<()> {
    skip_unless!(possible(), requirements::program("mkfs.btrfs"));
    let directory = tempfile::tempdir()?;
    let (image, place) = (directory.path().join("image"), directory.path().join("fs"));
    std::fs::create_dir(&place)?;
    std::fs::File::create(&image)?.set_len(1 << 30)?;
    run(Command::new("mkfs.btrfs").arg("-q").arg(&image))?;
    run(Command::new("mount").arg("-oloop").arg(&image).arg(&place))?;
    let result = a_pod_on("btrfs", Some(place.join("storage"))).await;
    run(Command::new("umount").arg("-R").arg(&place))?;
    result
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(())
}

async fn a_pod_on(driver: &str, root: Option<PathBuf>) -> Result<()> {
    let mut scene = Scene::start_with(NodeOptions {
        storage_driver: driver.to_owned(),
        root,
        ..NodeOptions::default()
    })
    .await?;
    let node = &scene.node;
    let container = |name: &str| node.container(name, &scene.image, &["sleep", "600"]);
    let (pod, first) = node.run(&node.pod("one"), &container("first"), "").await?;
    let (config, second) = (node.pod("one"), container("second"));
    let second = node.client.create(&pod, &second, &config).await?;
    node.client.start(&second).await?;
    // What one changes the other does not see, and neither does the image.
    output(
        node,
        &first,
        "echo changed > /etc/passwd; rm -rf /usr; echo x > /new",
    )
    .await?;
    ensure!(output(node, &first, "cat /etc/passwd /new").await? == "changed\nx\n");
    output(
        node,
        &second,
        "! grep changed /etc/passwd && ! test -e /new",
    )
    .await?;
    // Ids are mapped for the whole tree.
    let (mut mapped_pod, mut mapped) = (node.pod("mapped"), container("mapped"));
    map_users(&mut mapped_pod, &mut mapped, 1_000_000);
    let (_, mapped) = node.run(&mapped_pod, &mapped, "").await?;
    let owners = output(
        node,
        &mapped,
        "touch /mine; stat -c %u /mine /bin / | sort -u",
    )
    .await?;
    ensure!(owners == "0\n", "{owners}");

    scene.node.kill().await?;
    scene.node.start_again().await?;
    ensure!(output(&scene.node, &first, "cat /new").await? == "x\n");
    scene.node.finish().await
}
