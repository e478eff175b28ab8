//! Images, requests and annotations made to reach the host: one test for each class of attack that runtimes fell to.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, NamespaceMode};
use crioxide_test_support::image::{Compression, Format, ImageBuilder, Layer};
use crioxide_test_support::{NodeOptions, requirements, skip_unless};
use serde_json::json;

use super::output;
use crate::scene::{Scene, possible};

/// What the host has under the names that the images below point at.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_an_image_lead_nowhere_on_the_host_builtin() -> Result<()> {
    skip_unless!(possible());
    links_lead_nowhere("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_an_image_lead_nowhere_on_the_host_runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    links_lead_nowhere("runc").await
}

/// Every directory that runtimes write to, as a link to a directory of the host.
async fn links_lead_nowhere(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let victim = node.place().base().join("victim");
    std::fs::create_dir(&victim)?;
    std::fs::write(victim.join("passwd"), "root:x:0:0::/:\n")?;
    let target = victim.display().to_string();
    for place in ["etc", "run", "dev", "var", "work"] {
        let links = Layer::new().symbolic_link(place, &target);
        let image = ImageBuilder::busybox(Format::Oci)?
            .layer(links, Compression::Gzip)
            .configure("Volumes", json!({"/var/volume": {}, "/work/volume": {}}));
        let name = scene.registry.add("test/links", place, &image.build()?);
        node.client.pull(&name).await?;
        let mut container = node.container("main", &name, &["/bin/busybox", "sleep", "600"]);
        container.working_dir = "/work/here".to_owned();
        super::security(&mut container).run_as_user = Some(v1::Int64Value { value: 4242 });
        container.mounts.push(v1::Mount {
            container_path: "/var/mounted".to_owned(),
            host_path: node.place().base().join("source").display().to_string(),
            ..Default::default()
        });
        // Whether it can run is its own affair.
        match node.run(&node.pod(place), &container, handler).await {
            Ok(_) => {}
            Err(error) => eprintln!("{place}: {error:#}"),
        }
        ensure!(
            names_in(&victim)? == ["passwd"],
            "{place}: {:?}",
            names_in(&victim)?
        );
        ensure!(std::fs::read_to_string(victim.join("passwd"))? == "root:x:0:0::/:\n");
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_and_no_directory_of_the_host_gets_in() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let pod = node.pod("descriptors");
    let (pod_id, id) = node.run(&pod, &container, "").await?;
    let seen = output(
        node,
        &id,
        "ls /proc/1/fd | tr '\\n' ' '; readlink /proc/1/cwd; readlink /proc/1/root",
    )
    .await?;
    ensure!(seen == "0 1 2 /\n/", "{seen}");
    // `ls` itself has the directory open as 3.
    let seen = output(node, &id, "ls /proc/self/fd | tr '\\n' ' '").await?;
    ensure!(seen == "0 1 2 3", "{seen}");
    let listed = node.client.exec(&id, &["ls", "/proc/self/fd"], 30).await?;
    ensure!(listed.stdout == b"0\n1\n2\n3\n", "{listed:?}");
    for number in 3..20 {
        let mut container = node.container(&format!("cwd-{number}"), &scene.image, &["pwd"]);
        container.working_dir = format!("/proc/self/fd/{number}");
        let Ok(id) = node.client.create(&pod_id, &container, &pod).await else {
            continue;
        };
        if node.client.start(&id).await.is_ok() {
            let status = node.exited(&id).await?;
            ensure!(status.exit_code != 0, "fd {number} led somewhere");
        }
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_reach_only_the_pods_own_namespaces() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let host = |key: &str| std::fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/")));
    let node_mode = i32::from(NamespaceMode::Node);
    for (name, key, value, options) in [
        (
            "core",
            "kernel.core_pattern",
            "|/bin/evil",
            v1::NamespaceOption::default(),
        ),
        (
            "joined",
            "kernel.shm_rmid_forced",
            "1+kernel.core_pattern=|/bin/evil",
            v1::NamespaceOption::default(),
        ),
        (
            "path",
            "kernel.shm_rmid_forced/../core_pattern",
            "|/bin/evil",
            v1::NamespaceOption::default(),
        ),
        (
            "host-net",
            "net.ipv4.ip_default_ttl",
            "17",
            v1::NamespaceOption {
                network: node_mode,
                ..Default::default()
            },
        ),
        (
            "host-ipc",
            "kernel.shm_rmid_forced",
            "1",
            v1::NamespaceOption {
                ipc: node_mode,
                ..Default::default()
            },
        ),
    ] {
        let before = (
            host("kernel.core_pattern")?,
            host("net.ipv4.ip_default_ttl")?,
            host("kernel.shm_rmid_forced")?,
        );
        let mut pod = node.pod(name);
        pod.linux
            .get_or_insert_default()
            .sysctls
            .insert(key.to_owned(), value.to_owned());
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        let options = v1::NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..options
        };
        crate::variants::set_namespaces(&mut pod, &mut container, &options);
        if options.network() == NamespaceMode::Node {
            pod.hostname = String::new();
        }
        if let Err(error) = node.run(&pod, &container, "").await {
            eprintln!("{name}: {error:#}");
        }
        let after = (
            host("kernel.core_pattern")?,
            host("net.ipv4.ip_default_ttl")?,
            host("kernel.shm_rmid_forced")?,
        );
        ensure!(before == after, "{name}: {before:?} became {after:?}");
        node.remove_pods().await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_do_nothing_unless_allowed() -> Result<()> {
    skip_unless!(possible());
    let dangerous = [
        ("run.oci.handler", "krun"),
        ("org.systemd.property.ExecStart", "'/bin/evil'"),
        ("io.kubernetes.cri-o.Devices", "/dev/fuse"),
        ("devices.crio.io", "/dev/fuse"),
        ("io.kubernetes.cri-o.UnifiedCgroup", "memory.max=max"),
    ];
    for (name, allowed) in [("default", false), ("allowed", true)] {
        let more = "[crio.runtime.workloads.trusted]\nactivation_annotation = \"trusted\"\n\
                    allowed_annotations = [\"devices.crio.io\"]\n";
        let scene = Scene::start_with(NodeOptions {
            more_tables: more.to_owned(),
            ..Default::default()
        })
        .await?;
        let node = &scene.node;
        let mut pod = node.pod(name);
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        for (key, value) in dangerous {
            pod.annotations.insert(key.to_owned(), value.to_owned());
            container
                .annotations
                .insert(key.to_owned(), value.to_owned());
        }
        pod.annotations
            .insert("harmless".to_owned(), "yes".to_owned());
        if allowed {
            pod.annotations.insert("trusted".to_owned(), String::new());
        }
        let (pod_id, id) = node.run(&pod, &container, "").await?;
        let config = node
            .place()
            .base()
            .join(format!("run/overlay-containers/{id}/userdata/config.json"));
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(config)?)?;
        let annotations = config["annotations"].as_object().context("annotations")?;
        for key in [
            "run.oci.handler",
            "org.systemd.property.ExecStart",
            "io.kubernetes.cri-o.UnifiedCgroup",
        ] {
            ensure!(
                !annotations.contains_key(key),
                "{name}: {key} reached the runtime"
            );
        }
        let status = node.client.pod_status(&pod_id).await?;
        ensure!(
            status
                .annotations
                .get("harmless")
                .is_some_and(|value| value == "yes")
        );
        let has_device = node
            .client
            .exec(&id, &["test", "-c", "/dev/fuse"], 30)
            .await?
            .exit_code
            == 0;
        ensure!(
            has_device == (allowed && Path::new("/dev/fuse").exists()),
            "{name}: {has_device}"
        );
        scene.node.finish().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn account_files_without_end_are_not_read_whole() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    // 64 MiB that compress to nothing, and a line break nowhere.
    let huge = vec![b'x'; 64 << 20];
    let layer = Layer::new().file("etc/passwd", &huge, 0o644);
    let image = ImageBuilder::busybox(Format::Oci)?.layer(layer, Compression::Gzip);
    let name = scene.registry.add("test/huge", "1", &image.build()?);
    node.client.pull(&name).await?;
    let mut container = node.container("main", &name, &["true"]);
    super::security(&mut container).run_as_username = "web".to_owned();
    let answer = node.run(&node.pod("huge"), &container, "").await;
    ensure!(answer.is_err(), "a user was found in a file without lines");
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.daemon_pid()?))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    eprintln!("{answer:?}; most memory of the daemon: {peak:?}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_those_granted() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start_with(NodeOptions {
        runtime_keys: "device_ownership_from_security_context = true".to_owned(),
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    container.devices.push(v1::Device {
        container_path: "/dev/mine".to_owned(),
        host_path: "/dev/zero".to_owned(),
        permissions: "r".to_owned(),
    });
    let security = super::security(&mut container);
    security.run_as_user = Some(v1::Int64Value { value: 33 });
    security.run_as_group = Some(v1::Int64Value { value: 44 });
    let (_, id) = node.run(&node.pod("devices"), &container, "").await?;
    let seen = output(
        node,
        &id,
        "stat -c '%u:%g %t:%T' /dev/mine; head -c 1 /dev/mine | wc -c",
    )
    .await?;
    ensure!(seen == "33:44 1:5\n1", "{seen}");
    node.remove_pods().await?;
    // Root may make any node, and use none but those granted.
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    super::security(&mut container).capabilities = Some(v1::Capability {
        add_capabilities: vec!["MKNOD".to_owned()],
        ..Default::default()
    });
    let (_, id) = node.run(&node.pod("mknod"), &container, "").await?;
    let script = "mknod /kmsg c 1 11 && head -c 1 /kmsg";
    super::denied(node, &id, script, "not permitted").await?;
    scene.node.finish().await
}
