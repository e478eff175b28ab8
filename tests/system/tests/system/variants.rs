//! Pods that share namespaces with the host or among their containers.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{ContainerConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};
use crioxide_test_support::node::pod_namespaces;
use crioxide_test_support::skip_unless;

use crate::scene::{Scene, possible};

/// Sets the namespaces of a pod and of one container of it alike, as the kubelet does.
pub(crate) fn set_namespaces(
    pod: &mut PodSandboxConfig,
    container: &mut ContainerConfig,
    options: &NamespaceOption,
) {
    let of_pod = pod
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut());
    of_pod
        .expect("a pod of the tests has a security context")
        .namespace_options = Some(options.clone());
    let of_container = container
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut());
    of_container
        .expect("a container of the tests has a security context")
        .namespace_options = Some(options.clone());
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_those_asked_for() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    for (name, options, shared) in [
        ("private", pod_namespaces(NamespaceMode::Container), &[][..]),
        (
            "host-network",
            NamespaceOption {
                network: NamespaceMode::Node.into(),
                ..pod_namespaces(NamespaceMode::Container)
            },
            &["net"][..],
        ),
        (
            "host-pid",
            pod_namespaces(NamespaceMode::Node),
            &["pid"][..],
        ),
        (
            "host-ipc",
            NamespaceOption {
                ipc: NamespaceMode::Node.into(),
                ..pod_namespaces(NamespaceMode::Container)
            },
            &["ipc"][..],
        ),
    ] {
        let mut pod = node.pod(name);
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        set_namespaces(&mut pod, &mut container, &options);
        if options.network() == NamespaceMode::Node {
            pod.hostname = String::new();
        }
        let (_, id) = node.run(&pod, &container, "").await.context(name)?;
        for kind in ["net", "pid", "ipc", "mnt"] {
            let link = format!("/proc/self/ns/{kind}");
            let seen = node.client.exec(&id, &["readlink", &link], 30).await?;
            let own = std::fs::read_link(&link)?.display().to_string();
            let same = String::from_utf8_lossy(&seen.stdout).trim() == own;
            ensure!(
                same == shared.contains(&kind),
                "{name}: {kind} shared with the host is {same}"
            );
        }
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_see_each_other() -> Result<()> {
    skip_unless!(possible());
    one_pid_namespace("").await
}

/// A pod with one PID namespace has an infra container, which reaps.
pub(crate) async fn one_pid_namespace(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut pod = node.pod("shared");
    let mut one = node.container("one", &scene.image, &["sleep", "600"]);
    set_namespaces(&mut pod, &mut one, &pod_namespaces(NamespaceMode::Pod));
    let mut two = node.container("two", &scene.image, &["sleep", "601"]);
    set_namespaces(&mut pod, &mut two, &pod_namespaces(NamespaceMode::Pod));
    let (pod_id, first) = node.run(&pod, &one, handler).await?;
    let second = node.client.create(&pod_id, &two, &pod).await?;
    node.client.start(&second).await?;
    // A start answers when the process is let go, which may be before it is the program asked for.
    crioxide_test_support::waiting::eventually("both programs", async || {
        let seen = node
            .client
            .exec(&first, &["ps", "-o", "pid,args"], 30)
            .await?;
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        ensure!(
            seen.contains("sleep 600") && seen.contains("sleep 601"),
            "{seen}"
        );
        Ok(())
    })
    .await?;
    // Orphans of the pod are reaped by its first process.
    let orphan = node
        .client
        .exec(&first, &["sh", "-c", "(sleep 0.1 &) ; true"], 30)
        .await?;
    ensure!(orphan.exit_code == 0);
    crioxide_test_support::waiting::eventually("no zombies", async || {
        let seen = node
            .client
            .exec(&first, &["ps", "-o", "stat,args"], 30)
            .await?;
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        ensure!(!seen.lines().any(|line| line.starts_with('Z')), "{seen}");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_of_the_pod_apply() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut pod = node.pod("sysctl");
    let linux = pod
        .linux
        .as_mut()
        .context("a pod of the tests is a Linux pod")?;
    linux.sysctls.insert(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "77".to_owned(),
    );
    linux
        .sysctls
        .insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    let (_, id) = node
        .run(
            &pod,
            &node.container("main", &scene.image, &["sleep", "600"]),
            "",
        )
        .await?;
    let seen = node
        .client
        .exec(
            &id,
            &[
                "cat",
                "/proc/sys/net/ipv4/ip_unprivileged_port_start",
                "/proc/sys/kernel/shm_rmid_forced",
            ],
            30,
        )
        .await?;
    ensure!(seen.stdout == b"77\n1\n", "{seen:?}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn host_ports_lead_to_the_pod() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let mut pod = node.pod("ports");
    pod.port_mappings.push(crioxide_cri_api::v1::PortMapping {
        container_port: 8080,
        host_port: i32::from(free),
        ..Default::default()
    });
    let serve = [
        "sh",
        "-c",
        "mkdir -p /www && echo mapped > /www/index.html && exec httpd -f -p 8080 -h /www",
    ];
    node.run(&pod, &node.container("main", &scene.image, &serve), "")
        .await?;
    let url = format!("http://127.0.0.1:{free}/");
    crioxide_test_support::waiting::eventually("an answer at the host port", async || {
        let text = crioxide_test_support::registry::http_client()?
            .get(&url)
            .send()
            .await?
            .text()
            .await?;
        ensure!(text == "mapped\n", "{text}");
        Ok(())
    })
    .await?;
    node.remove_pods().await?;
    ensure!(
        std::net::TcpListener::bind(("127.0.0.1", free)).is_ok(),
        "the port is free again"
    );
    scene.node.finish().await
}
