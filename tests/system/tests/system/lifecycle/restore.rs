//! Restore of containers from checkpoints. Where criu does not work, as with kernels newer than it, this is for the VM
//! tier.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::image::{Compression, Format, ImageBuilder, Layer};
use crioxide_test_support::node::pod_namespaces;
use crioxide_test_support::{TestNode, requirements, skip_unless, waiting::eventually};

use super::checkpoint::{FAILED, checkpoint, criu_works_here, tar};
use crate::scene::{Scene, possible, refused};
use crate::security::output;
use crate::smoke::crun_works_here;
use crate::survival::restart::container_pid;
use crate::variants::set_namespaces;

#[tokio::test(flavor = "multi_thread")]
async fn builtin_goes_on_where_it_was() -> Result<()> {
    skip_unless!(possible(), criu_works_here());
    goes_on_where_it_was("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_goes_on_where_it_was() -> Result<()> {
    skip_unless!(possible(), criu_works_here(), requirements::program("runc"));
    goes_on_where_it_was("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn crun_goes_on_where_it_was() -> Result<()> {
    skip_unless!(
        possible(),
        criu_works_here(),
        requirements::program("crun"),
        crun_works_here()
    );
    goes_on_where_it_was("crun").await
}

/// As much of an archive as is there before criu's images are looked at.
fn forged(path: &Path, image: &str, mounts: &serde_json::Value) -> Result<()> {
    let place = tempfile::tempdir()?;
    fs::create_dir(place.path().join("checkpoint"))?;
    let config = serde_json::json!({"rootfsImageName": image, "rootfsImageRef": ""});
    let spec = serde_json::json!({
        "mounts": mounts,
        "process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
        "linux": {"maskedPaths": [], "cgroupsPath": "/", "namespaces": []},
    });
    for (name, content) in [("config.dump", config), ("spec.dump", spec)] {
        fs::write(place.path().join(name), content.to_string())?;
    }
    fs::write(place.path().join("checkpoint/netdev-1.img"), "x")?;
    let (to, from) = (
        path.display().to_string(),
        place.path().display().to_string(),
    );
    tar(&["-cf", &to, "-C", &from, "."]).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_archives_bring_nothing_and_leave_nothing() -> Result<()> {
    skip_unless!(possible(), requirements::program("criu"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let archive = place.path().join("c.tar");
    let name = archive.display().to_string();
    let pod = node.pod("forged");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let before = node.snapshot();
    let refuses = async |image: &str, parts: &[&str]| -> Result<()> {
        let container = node.container("main", image, &["sh"]);
        refused(
            node.client.create(&pod_id, &container, &pod).await,
            FAILED,
            parts,
        )?;
        ensure!(node.client.list_containers().await?.is_empty());
        node.nothing_left(&before).await
    };
    refuses(&name, &["failed to open checkpoint archive", &name]).await?;
    fs::write(&archive, "nonsense")?;
    refuses(&name, &["unpacking of checkpoint archive", "failed"]).await?;
    fs::write(&archive, [0; 1024])?;
    refuses(&name, &["failed to read", "config.dump"]).await?;
    refuses("/etc", &["not a file"]).await?;
    let hosts = serde_json::json!([{"destination": "/etc/hosts"}]);
    forged(&archive, "no.such/image:1", &hosts)?;
    refuses(&name, &["no.such/image:1", "pull it before"]).await?;
    // What the archive says of mounts and rights counts for nothing.
    let host = serde_json::json!([
        {"destination": "/host", "type": "bind", "source": "/", "options": ["rbind", "rw"]},
    ]);
    forged(&archive, &scene.image, &host)?;
    refuses(&name, &["expects following bind mounts defined (/host)"]).await?;
    forged(&archive, &scene.image, &hosts)?;
    refuses(
        &name,
        &["failed to restore from checkpoint", "netdev-1.img"],
    )
    .await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_stays_one() -> Result<()> {
    skip_unless!(possible(), criu_works_here());
    for handler in ["builtin", "runc", "crun"] {
        let there = handler == "builtin" || requirements::program(handler).is_ok();
        if there && (handler != "crun" || crun_works_here().is_ok()) {
            stays_a_user(handler).await.context(handler)?;
        }
    }
    Ok(())
}

async fn stays_a_user(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let archive = place.path().join("c.tar");
    let script = "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.1; done";
    let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
    let user = |container: &mut v1::ContainerConfig, uid: i64| {
        let linux = container.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        security.run_as_user = Some(v1::Int64Value { value: uid });
        security.readonly_rootfs = true;
        security.no_new_privs = true;
    };
    user(&mut container, 1000);
    let (_, id) = node.run(&node.pod("user"), &container, handler).await?;
    eventually("the container counts", async || {
        output(node, &id, "test -s /dev/shm/count").await.map(drop)
    })
    .await?;
    checkpoint(node, &id, &archive).await?;
    node.client.stop(&id, 0).await?;

    container.image = Some(v1::ImageSpec {
        image: archive.display().to_string(),
        ..Default::default()
    });
    // Another user's container does not get its processes.
    let mut other = container.clone();
    user(&mut other, 1001);
    let pod = node.pod("again");
    let pod_id = node.client.run_pod(&pod, handler).await?;
    let answer = node.client.create(&pod_id, &other, &pod).await;
    refused(answer, FAILED, &["user 1000", "runs as user 1001"])?;

    let id = node.client.create(&pod_id, &container, &pod).await?;
    node.client.start(&id).await?;
    eventually("the container counts", async || {
        output(node, &id, "test -s /dev/shm/count").await.map(drop)
    })
    .await?;
    let status = fs::read_to_string(format!("/proc/{}/status", container_pid(node, &id).await?))?;
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
    ] {
        ensure!(status.contains(line), "no {line:?} in {status}");
    }
    let root = fs::read_to_string(format!(
        "/proc/{}/mountinfo",
        container_pid(node, &id).await?
    ))?;
    let root = root
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"));
    let options = root.and_then(|line| line.split(' ').nth(5));
    ensure!(
        options.is_some_and(|options| options.starts_with("ro")),
        "{root:?}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_processes_and_the_hosts_network() -> Result<()> {
    skip_unless!(possible(), criu_works_here(), requirements::program("runc"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let shared = pod_namespaces(v1::NamespaceMode::Pod);
    let mut host = pod_namespaces(v1::NamespaceMode::Container);
    host.network = v1::NamespaceMode::Node.into();
    let script = "i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.1; done";
    for handler in ["builtin", "runc"] {
        for (name, namespaces) in [("shared", &shared), ("host", &host)] {
            let archive = place.path().join(format!("{handler}-{name}.tar"));
            let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
            let mut pod = node.pod(&format!("{handler}-{name}"));
            set_namespaces(&mut pod, &mut container, namespaces);
            let (pod_id, id) = node.run(&pod, &container, handler).await?;
            count(node, &id).await?;
            checkpoint(node, &id, &archive).await?;
            node.client.stop_pod(&pod_id).await?;
            node.client.remove_pod(&pod_id).await?;

            container.image = Some(v1::ImageSpec {
                image: archive.display().to_string(),
                ..Default::default()
            });
            let mut pod = node.pod(&format!("{handler}-{name}-again"));
            set_namespaces(&mut pod, &mut container, namespaces);
            let ran = node.run(&pod, &container, handler).await;
            let (pod_id, id) = ran.with_context(|| format!("{handler}, {name}"))?;
            let before = count(node, &id).await?;
            eventually("the container counts on", async || {
                ensure!(count(node, &id).await? > before);
                Ok(())
            })
            .await?;
            let mut peer = node.container("peer", &scene.image, &["sleep", "600"]);
            set_namespaces(&mut pod, &mut peer, namespaces);
            let peer = node.client.create(&pod_id, &peer, &pod).await?;
            node.client.start(&peer).await?;
            let (its, peers) = (
                container_pid(node, &id).await?,
                container_pid(node, &peer).await?,
            );
            let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            for kind in ["net", "ipc", "uts"] {
                ensure!(namespace(its, kind)? == namespace(peers, kind)?, "{kind}");
            }
            let shares = namespace(its, "pid")? == namespace(peers, "pid")?;
            ensure!(shares == (name == "shared"), "{name}");
            node.client.stop_pod(&pod_id).await?;
            node.client.remove_pod(&pod_id).await?;
        }
    }
    scene.node.finish().await
}

async fn goes_on_where_it_was(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let (volume, archive) = (place.path().join("volume"), place.path().join("c.tar"));
    fs::create_dir(&volume)?;
    let script = "trap 'exit 7' TERM; echo started; rm /etc/group; i=0; \
        while true; do i=$((i+1)); echo $i > /count; sleep 0.1; done";
    let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
    container.mounts.push(v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: volume.display().to_string(),
        readonly: true,
        ..Default::default()
    });
    let (_, id) = node.run(&node.pod("first"), &container, handler).await?;
    eventually("the container counts", async || {
        output(node, &id, "test -s /count").await.map(drop)
    })
    .await?;
    checkpoint(node, &id, &archive).await?;
    let at_least = count(node, &id).await?;
    node.client.stop(&id, 0).await?;
    node.client.remove(&id).await?;

    let image = as_image(&scene, &archive, place.path())?;
    node.client.pull(&image).await?;
    for (name, source) in [("archive", archive.display().to_string()), ("image", image)] {
        let pod = node.pod(name);
        container.image = Some(v1::ImageSpec {
            image: source,
            ..Default::default()
        });
        let (pod_id, id) = node
            .run(&pod, &container, handler)
            .await
            .with_context(|| format!("from the {name}"))?;
        let before = count(node, &id).await?;
        // It is back at the checkpoint, not at the end of the first one, and it does not begin anew.
        ensure!(
            before + 50 > at_least,
            "{before}, {at_least} at the checkpoint"
        );
        eventually("the container counts on", async || {
            let now = count(node, &id).await?;
            ensure!(now > before, "{now} after {before}");
            Ok(())
        })
        .await?;
        let log = node.container_log(&pod, "main")?;
        ensure!(log.len() == 1, "{log:?}");
        let peer = node.container("peer", &scene.image, &["sleep", "600"]);
        let peer = node.client.create(&pod_id, &peer, &pod).await?;
        node.client.start(&peer).await?;
        is_confined_like(node, &id, &peer).await?;
        // The signal of a stop is one that it caught before.
        node.client.stop(&id, 600).await?;
        let status = node.exited(&id).await?;
        ensure!(status.exit_code == 7, "{status:?}");
        node.client.stop_pod(&pod_id).await?;
        node.client.remove_pod(&pod_id).await?;
    }
    let left: Vec<_> = fs::read_dir(place.path())?.flatten().collect();
    ensure!(left.len() == 3, "{left:?}");
    scene.node.finish().await
}

async fn count(node: &TestNode, id: &str) -> Result<u64> {
    // It is empty for a moment whenever it is written.
    eventually("there is a count", async || {
        Ok(output(node, id, "cat /count").await?.trim().parse()?)
    })
    .await
}

/// An image that holds what is in the archive.
fn as_image(scene: &Scene, archive: &Path, place: &Path) -> Result<String> {
    let unpacked = place.join("unpacked");
    fs::create_dir(&unpacked)?;
    let (from, to) = (
        archive.display().to_string(),
        unpacked.display().to_string(),
    );
    tar(&["-xf", &from, "-C", &to])?;
    let mut layer = Layer::new().directory("checkpoint", 0o700);
    for directory in ["", "checkpoint"] {
        for entry in fs::read_dir(unpacked.join(directory))? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.strip_prefix(&unpacked)?.display().to_string();
                layer = layer.file(&name, &fs::read(&path)?, 0o600);
            }
        }
    }
    let image = ImageBuilder::new(Format::Oci)
        .layer(layer, Compression::Gzip)
        .annotate("io.kubernetes.cri-o.annotations.checkpoint.name", "main")
        .build()?;
    Ok(scene.registry.add("test/checkpoint", "1", &image))
}

/// Namespaces, rights and places of the restored container are those of one that was made beside it.
async fn is_confined_like(node: &TestNode, restored: &str, made: &str) -> Result<()> {
    let (restored_pid, made_pid) = (
        container_pid(node, restored).await?,
        container_pid(node, made).await?,
    );
    let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    for kind in ["net", "ipc", "uts", "user"] {
        let (its, peers) = (namespace(restored_pid, kind)?, namespace(made_pid, kind)?);
        ensure!(its == peers, "{kind}: {its:?} instead of {peers:?}");
    }
    let own = i32::try_from(std::process::id())?;
    for kind in ["pid", "mnt"] {
        let its = namespace(restored_pid, kind)?;
        ensure!(its != namespace(own, kind)?, "{kind} is the host's");
        ensure!(its != namespace(made_pid, kind)?, "{kind} is another's");
    }
    // Whether there is one depends on the version of cgroups.
    let has_own =
        |pid| -> Result<bool> { Ok(namespace(pid, "cgroup")? != namespace(own, "cgroup")?) };
    ensure!(
        has_own(restored_pid)? == has_own(made_pid)?,
        "cgroup namespace"
    );
    let cgroup = fs::read_to_string(format!("/proc/{restored_pid}/cgroup"))?;
    ensure!(cgroup.contains(restored), "{cgroup}");
    // By the security module that is there, if any.
    let profile = |pid: i32| fs::read_to_string(format!("/proc/{pid}/attr/current")).ok();
    let (its, peers) = (profile(restored_pid), profile(made_pid));
    ensure!(its == peers, "{its:?} instead of {peers:?}");
    let (its, peers) = (limits(restored_pid)?, limits(made_pid)?);
    ensure!(
        its == peers && its.len() > 2,
        "{its:?} instead of {peers:?}"
    );
    let rights = |pid: i32| -> Result<BTreeMap<String, String>> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let fields = status.lines().filter_map(|line| line.split_once(":\t"));
        let wanted = ["Cap", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp"];
        let fields = fields.filter(|(name, _)| {
            wanted.iter().any(|wanted| name.starts_with(wanted)) && *name != "Seccomp_filters"
        });
        Ok(fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    };
    let (its, peers) = (rights(restored_pid)?, rights(made_pid)?);
    ensure!(its == peers, "{its:?} instead of {peers:?}");
    for refused in [
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /volume/file",
        "ls /proc/acpi | grep .",
        "head -c 1 /proc/kcore | grep .",
    ] {
        ensure!(output(node, restored, refused).await.is_err(), "{refused}");
    }
    let mounts = |pid: i32| -> Result<Vec<String>> {
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let mut places: Vec<String> = table
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(3);
                let (root, place, options) = (fields.next()?, fields.next()?, fields.next()?);
                // The runtimes take different null devices, what a bind mount inherits differs, and crun leaves the
                // directory of version 1's hierarchies writable.
                let options = match root.ends_with("null")
                    || ["/dev/shm", "/sys/fs/cgroup"].contains(&place)
                {
                    true => "",
                    false => options,
                };
                Some(format!("{place} {options}"))
            })
            .filter(|mount| !mount.starts_with("/volume "))
            .collect();
        places.sort();
        Ok(places)
    };
    let (its, peers) = (mounts(restored_pid)?, mounts(made_pid)?);
    ensure!(its == peers, "{its:?} instead of {peers:?}");
    Ok(())
}

/// What the cgroup of a process is limited to, devices of version 1 included.
fn limits(pid: i32) -> Result<BTreeMap<&'static str, String>> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut limits = BTreeMap::new();
    for line in table.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (
            fields.next().context("controllers")?,
            fields.next().context("a path")?,
        );
        let directory = Path::new("/sys/fs/cgroup")
            .join(names)
            .join(path.trim_start_matches('/'));
        for name in [
            "memory.max",
            "pids.max",
            "cpu.weight",
            "memory.limit_in_bytes",
            "cpu.shares",
            "devices.list",
        ] {
            if let Ok(limit) = fs::read_to_string(directory.join(name)) {
                limits.insert(name, limit);
            }
        }
    }
    Ok(limits)
}
