//! Pods with a user namespace of their own.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, NamespaceMode};
use crioxide_test_support::{TestNode, requirements, skip_unless};
use tonic::Code;

use super::{output, pod_security, security};
use crate::scene::{Scene, possible, refused};
use crate::survival::restart::container_pid;

/// First id of the tests' pods on the host.
const FIRST: u32 = 1_000_000;
const COUNT: u32 = 65536;

pub(super) fn mapping(first: u32) -> Vec<v1::IdMapping> {
    vec![v1::IdMapping {
        host_id: first,
        container_id: 0,
        length: COUNT,
    }]
}

fn users(mode: NamespaceMode, mappings: &[v1::IdMapping]) -> v1::UserNamespace {
    v1::UserNamespace {
        mode: mode.into(),
        uids: mappings.to_vec(),
        gids: mappings.to_vec(),
    }
}

/// Gives pod and container a user namespace, as the kubelet does.
pub(crate) fn map_users(
    pod: &mut v1::PodSandboxConfig,
    container: &mut v1::ContainerConfig,
    first: u32,
) {
    let options = users(NamespaceMode::Pod, &mapping(first));
    let of_pod = pod_security(pod).namespace_options.get_or_insert_default();
    of_pod.userns_options = Some(options.clone());
    let of_container = security(container)
        .namespace_options
        .get_or_insert_default();
    of_container.userns_options = Some(options);
}

#[tokio::test(flavor = "multi_thread")]
async fn builtin() -> Result<()> {
    skip_unless!(possible());
    mapped_pod("builtin").await?;
    with_a_pid_namespace_of_the_pod("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    mapped_pod("runc").await?;
    with_a_pid_namespace_of_the_pod("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn crun() -> Result<()> {
    skip_unless!(
        possible(),
        requirements::program("crun"),
        crate::smoke::crun_works_here()
    );
    mapped_pod("crun").await?;
    with_a_pid_namespace_of_the_pod("crun").await
}

async fn mapped_pod(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut pod = node.pod("mapped");
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    map_users(&mut pod, &mut container, FIRST);
    let linux = pod.linux.get_or_insert_default();
    linux.sysctls.insert(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "77".to_owned(),
    );
    linux
        .sysctls
        .insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    let volume = node.place().base().join("volume");
    std::fs::create_dir(&volume)?;
    std::fs::write(volume.join("given"), "given\n")?;
    let mut places =
        "/ /bin/busybox /etc /etc/hostname /etc/resolv.conf /etc/hosts /dev/shm /image/bin/busybox"
            .to_owned();
    let mapped_volume = v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: volume.display().to_string(),
        uid_mappings: mapping(FIRST),
        gid_mappings: mapping(FIRST),
        ..Default::default()
    };
    if maps_volumes(handler)? {
        container.mounts.push(mapped_volume);
        places.push_str(" /volume /volume/given");
    } else {
        let mut refused_container = node.container("refused", &scene.image, &["true"]);
        refused_container.mounts.push(mapped_volume);
        let answer = node
            .run(&node.pod("refused"), &refused_container, handler)
            .await;
        let error = format!(
            "{:#}",
            answer.err().context("a mount whose ids cannot be mapped")?
        );
        ensure!(
            error.contains("idmap mounts specified but OCI runtime does not support them"),
            "{error}"
        );
        node.remove_pods().await?;
    }
    container.mounts.push(v1::Mount {
        container_path: "/image".to_owned(),
        image: Some(crioxide_test_support::client::image_spec(&scene.image)),
        ..Default::default()
    });
    let (pod_id, id) = node.run(&pod, &container, handler).await?;
    let map = format!("0 {FIRST} {COUNT}");
    let seen = output(node, &id, "cat /proc/self/uid_map | tr -s ' '").await?;
    ensure!(seen.trim() == map, "{seen}");
    // The image's files, the pod's files and the volume belong to root inside.
    let seen = output(node, &id, &format!("stat -c '%u:%g %n' {places}")).await?;
    let wrong: Vec<&str> = seen
        .lines()
        .filter(|line| !line.starts_with("0:0 "))
        .collect();
    ensure!(wrong.is_empty(), "{handler}: {wrong:?}");
    // What the container makes is the host's root's in a mapped volume, and a plain user's elsewhere.
    let script = "echo x > /made; chown 1000:1000 /made; echo x >> /etc/hosts; echo x > /dev/shm/x";
    output(node, &id, script).await?;
    if maps_volumes(handler)? {
        output(node, &id, "echo x > /volume/made").await?;
        let made = std::fs::metadata(volume.join("made"))?;
        ensure!(
            (made.uid(), made.gid()) == (0, 0),
            "{handler}: {}:{}",
            made.uid(),
            made.gid()
        );
    }
    let layer = find_made(node)?;
    ensure!((layer.uid(), layer.gid()) == (FIRST + 1000, FIRST + 1000));
    // The namespaces are the pod's, so its root sets them up; the sysctls are set.
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    ensure!(output(node, &id, script).await? == "77\n1");
    // Root inside is nobody outside.
    let pid = container_pid(node, &id).await?;
    let owner = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(owner.contains(&format!("\nUid:\t{FIRST}\t")), "{owner}");

    // A second container shares the namespace.
    let mut second = node.container("second", &scene.image, &["sleep", "601"]);
    map_users(&mut pod, &mut second, FIRST);
    let second = node.client.create(&pod_id, &second, &pod).await?;
    node.client.start(&second).await?;
    let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/user"));
    ensure!(of(pid)? == of(container_pid(node, &second).await?)?);
    ensure!(of(pid)? != of(i32::try_from(std::process::id())?)?);
    let status = node.client.pod_status(&pod_id).await?;
    let options = status
        .linux
        .and_then(|linux| linux.namespaces)
        .and_then(|n| n.options);
    let told = options.and_then(|options| options.userns_options);
    ensure!(
        told == Some(users(NamespaceMode::Pod, &mapping(FIRST))),
        "{told:?}"
    );
    scene.node.finish().await
}

/// Whether a handler's program can map the ids of volumes.
fn maps_volumes(handler: &str) -> Result<bool> {
    if handler == "builtin" {
        return Ok(true);
    }
    let features = std::process::Command::new(handler)
        .arg("features")
        .output()?;
    let features: serde_json::Value = serde_json::from_slice(&features.stdout).unwrap_or_default();
    Ok(features["linux"]["mountExtensions"]["idmap"]["enabled"] == true)
}

/// `/made` in the one container layer that has it.
fn find_made(node: &TestNode) -> Result<std::fs::Metadata> {
    for entry in std::fs::read_dir(node.place().root().join("overlay"))? {
        if let Ok(found) = std::fs::metadata(entry?.path().join("diff/made")) {
            return Ok(found);
        }
    }
    anyhow::bail!("no layer has /made")
}

/// In the pod's own network and in the host's.
/// The host's own mounts on and below `/sys`, which pods in its network get to see.
fn mounts_on_sys() -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let on_sys = |line: &&str| {
        line.split(' ')
            .nth(4)
            .is_some_and(|on| on.starts_with("/sys"))
    };
    Ok(mounts.lines().filter(on_sys).map(str::to_owned).collect())
}

async fn with_a_pid_namespace_of_the_pod(handler: &str) -> Result<()> {
    let before = mounts_on_sys()?;
    let mut scene = Scene::start().await?;
    for (name, network) in [("pod", NamespaceMode::Pod), ("host", NamespaceMode::Node)] {
        let node = &scene.node;
        let mut pod = node.pod(name);
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        let options = v1::NamespaceOption {
            network: network.into(),
            ..crioxide_test_support::node::pod_namespaces(NamespaceMode::Pod)
        };
        crate::variants::set_namespaces(&mut pod, &mut container, &options);
        map_users(&mut pod, &mut container, FIRST + COUNT);
        if network == NamespaceMode::Node {
            pod.hostname = String::new();
        }
        let (_, id) = node.run(&pod, &container, handler).await.context(name)?;
        let seen = output(node, &id, "ps -o args; readlink /proc/self/ns/net").await?;
        ensure!(
            seen.contains("pause") && seen.contains("sleep 600"),
            "{seen}"
        );
        let own = std::fs::read_link("/proc/self/ns/net")?
            .display()
            .to_string();
        ensure!(
            seen.contains(&own) == (network == NamespaceMode::Node),
            "{seen}"
        );
        // It also survives the daemon.
        scene.node.kill().await?;
        scene.node.start_again().await?;
        let node = &scene.node;
        let (kept, mut again) = (
            pod.clone(),
            node.container("again", &scene.image, &["sleep", "602"]),
        );
        map_users(&mut pod, &mut again, FIRST + COUNT);
        crate::variants::set_namespaces(&mut pod, &mut again, &options);
        let pods = node.client.list_pods().await?;
        let pod_id = &pods.first().context("the pod is still there")?.id;
        let again = node.client.create(pod_id, &again, &kept).await?;
        node.client.start(&again).await?;
        let map = output(node, &again, "cat /proc/self/uid_map | tr -s ' '").await?;
        ensure!(
            map.trim() == format!("0 {} {COUNT}", FIRST + COUNT),
            "{map}"
        );
        let mounts = mounts_on_sys()?;
        ensure!(mounts == before, "the host's mounts: {mounts:#?}");
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_that_make_no_sense_are_refused() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let two = [mapping(FIRST), mapping(FIRST + COUNT)].concat();
    let mut without_root = mapping(FIRST);
    without_root[0].container_id = 1;
    for (options, part) in [
        (
            users(NamespaceMode::Container, &mapping(FIRST)),
            "unsupported pod mode",
        ),
        (users(NamespaceMode::Pod, &two), "exactly one uid mapping"),
        (
            users(NamespaceMode::Pod, &without_root),
            "does not map id 0",
        ),
        (users(NamespaceMode::Pod, &[]), "exactly one uid mapping"),
    ] {
        let mut pod = node.pod("refused");
        pod_security(&mut pod)
            .namespace_options
            .get_or_insert_default()
            .userns_options = Some(options);
        refused(
            node.client.run_pod(&pod, "").await,
            &[Code::Unknown],
            &[part],
        )?;
    }
    scene.node.finish().await
}
