//! SELinux: labels, and what they really deny. In the VM tier.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, NamespaceMode};
use crioxide_test_support::{TestNode, node::pod_namespaces, skip_unless};
use tonic::Code;

use super::{denied, output, pod_security, security};
use crate::scene::{Scene, possible, refused};

fn enabled() -> Result<(), String> {
    match Path::new("/sys/fs/selinux/enforce").exists() {
        true => Ok(()),
        false => Err("needs SELinux".to_owned()),
    }
}

fn enforcing() -> bool {
    std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1")
}

async fn label(node: &TestNode, id: &str) -> Result<String> {
    let text = output(node, id, "cat /proc/1/attr/current | tr -d '\\0'").await?;
    let own = output(node, id, "cat /proc/self/attr/current | tr -d '\\0'").await?;
    ensure!(
        text == own,
        "the first process has {text}, a later one {own}"
    );
    Ok(text)
}

fn level(label: &str) -> &str {
    label.splitn(4, ':').nth(3).unwrap_or_default()
}

fn label_of_file(path: &Path) -> Result<String> {
    let mut buffer = [0_u8; 512];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut buffer[..])?;
    Ok(String::from_utf8_lossy(&buffer[..length])
        .trim_end_matches('\0')
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_kept_apart() -> Result<()> {
    skip_unless!(possible(), enabled());
    let mut scene = Scene::start().await?;
    let node = &scene.node;
    let volume = node.place().base().join("volume");
    std::fs::create_dir_all(volume.join("deep"))?;
    std::fs::write(volume.join("deep/file"), "secret\n")?;
    // What a new file's label allows depends on where the tests' files are; nobody lets containers read this type.
    rustix::fs::setxattr(
        volume.join("deep/file"),
        "security.selinux",
        b"system_u:object_r:shadow_t:s0",
        rustix::fs::XattrFlags::empty(),
    )?;
    let mount = |relabel| v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: volume.display().to_string(),
        selinux_relabel: relabel,
        ..Default::default()
    };
    let pod = node.pod("first");
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    container.mounts.push(mount(false));
    let (pod_id, unlabelled) = node.run(&pod, &container, "").await?;
    let process = label(node, &unlabelled).await?;
    ensure!(process.contains(":container_t:s0:c"), "{process}");
    output(
        node,
        &unlabelled,
        "touch /new /dev/shm/new; cat /etc/resolv.conf /etc/hosts >/dev/null",
    )
    .await?;
    if enforcing() {
        denied(
            node,
            &unlabelled,
            "cat /volume/deep/file",
            "ermission denied",
        )
        .await
        .context("before the relabelling")?;
    }
    // A second container of the pod has the same label, and a relabelled volume is its own.
    let mut second = node.container("second", &scene.image, &["sleep", "600"]);
    second.mounts.push(mount(true));
    let second = node.client.create(&pod_id, &second, &pod).await?;
    node.client.start(&second).await?;
    ensure!(label(node, &second).await? == process);
    let seen = output(
        node,
        &second,
        "cat /volume/deep/file; echo more >> /volume/deep/file",
    )
    .await?;
    ensure!(seen == "secret", "{seen}");
    for path in ["", "deep", "deep/file"] {
        let found = label_of_file(&volume.join(path))?;
        ensure!(level(&found) == level(&process), "{path}: {found}");
    }
    // Another pod has other categories, and so no way to it.
    let mut other = node.container("main", &scene.image, &["sleep", "600"]);
    other.mounts.push(mount(false));
    let (_, other) = node.run(&node.pod("second"), &other, "").await?;
    let theirs = label(node, &other).await?;
    ensure!(level(&theirs) != level(&process), "{theirs}");
    if enforcing() {
        denied(node, &other, "cat /volume/deep/file", "ermission denied")
            .await
            .context("from another pod")?;
    }
    // The node's own directories are not relabelled for anybody.
    let mut greedy = node.container("greedy", &scene.image, &["true"]);
    greedy.mounts.push(v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: "/etc".to_owned(),
        selinux_relabel: true,
        ..Default::default()
    });
    let answer = node.client.create(&pod_id, &greedy, &pod).await;
    refused(
        answer,
        &[Code::Unknown],
        &["relabeling of /etc is not allowed"],
    )?;
    // After a restart the pod's new containers still have its label.
    scene.node.kill().await?;
    scene.node.start_again().await?;
    let node = &scene.node;
    let third = node.container("third", &scene.image, &["sleep", "600"]);
    let third = node.client.create(&pod_id, &third, &pod).await?;
    node.client.start(&third).await?;
    ensure!(label(node, &third).await? == process);
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn options_and_exceptions() -> Result<()> {
    skip_unless!(possible(), enabled());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut pod = node.pod("level");
    let options = v1::SeLinuxOption {
        level: "s0:c4,c5".to_owned(),
        ..Default::default()
    };
    pod_security(&mut pod).selinux_options = Some(options.clone());
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    security(&mut container).selinux_options = Some(options);
    let (_, id) = node.run(&pod, &container, "").await?;
    let seen = label(node, &id).await?;
    ensure!(seen.ends_with(":container_t:s0:c4,c5"), "{seen}");
    node.remove_pods().await?;
    let own = std::fs::read_to_string("/proc/self/attr/current")?;
    for (name, privileged, pid) in [
        ("privileged", true, NamespaceMode::Container),
        ("host-pid", false, NamespaceMode::Node),
    ] {
        let mut pod = node.pod(name);
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        crate::variants::set_namespaces(&mut pod, &mut container, &pod_namespaces(pid));
        pod_security(&mut pod).privileged = privileged;
        security(&mut container).privileged = privileged;
        let (_, id) = node.run(&pod, &container, "").await.context(name)?;
        let seen = output(node, &id, "cat /proc/self/attr/current | tr -d '\\0'").await?;
        ensure!(
            !seen.contains("container_t"),
            "{name}: {seen}, the test has {own}"
        );
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_it_ignore_the_fields() -> Result<()> {
    skip_unless!(
        possible(),
        match enabled() {
            Ok(()) => Err("this node has SELinux".to_owned()),
            Err(_) => Ok(()),
        }
    );
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    security(&mut container).selinux_options = Some(v1::SeLinuxOption {
        level: "s0:c4,c5".to_owned(),
        ..Default::default()
    });
    container.mounts.push(v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: node.place().base().display().to_string(),
        selinux_relabel: true,
        ..Default::default()
    });
    node.run(&node.pod("ignored"), &container, "").await?;
    scene.node.finish().await
}
