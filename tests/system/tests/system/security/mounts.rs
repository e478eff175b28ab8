//! What of the file system a container may change, and how mounts spread.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, MountPropagation};
use crioxide_test_support::{
    NodeOptions, TestNode, requirements, skip_unless, waiting::eventually,
};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use std::path::{Path, PathBuf};
use tonic::Code;

use super::{denied, output, security};
use crate::scene::{Scene, possible, refused};

const ANY: &[Code] = &[Code::Unknown];

/// A directory that is a mount of its own, until it is dropped.
struct OwnMount(PathBuf);

impl OwnMount {
    fn new(path: PathBuf, propagation: MountPropagationFlags) -> Result<Self> {
        std::fs::create_dir(&path)?;
        mount_bind(&path, &path)?;
        let made = Self(path);
        mount_change(&made.0, propagation)?;
        Ok(made)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// A tmpfs below it.
    fn mount_below(&self, name: &str) -> Result<PathBuf> {
        let place = self.0.join(name);
        std::fs::create_dir_all(&place)?;
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), None)?;
        std::fs::write(place.join("seen"), "")?;
        Ok(place)
    }
}

impl Drop for OwnMount {
    fn drop(&mut self) {
        while unmount(&self.0, UnmountFlags::DETACH).is_ok() {}
    }
}

fn bind(source: &Path, propagation: MountPropagation) -> v1::Mount {
    v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: source.display().to_string(),
        propagation: propagation.into(),
        ..Default::default()
    }
}

async fn with_mount(
    node: &TestNode,
    image: &str,
    name: &str,
    handler: &str,
    mount: v1::Mount,
) -> Result<String> {
    let mut pod = node.pod(name);
    let mut container = node.container("main", image, &["sleep", "600"]);
    container.mounts.push(mount);
    super::pod_security(&mut pod).privileged = true;
    security(&mut container).privileged = true;
    let (_, id) = node
        .run(&pod, &container, handler)
        .await
        .context(name.to_owned())?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_by_builtin() -> Result<()> {
    skip_unless!(possible());
    propagation("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_by_runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    propagation("runc").await
}

async fn propagation(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let shared = OwnMount::new(
        node.place().base().join("shared"),
        MountPropagationFlags::SHARED,
    )?;
    for (name, wanted, in_container, on_host) in [
        (
            "private",
            MountPropagation::PropagationPrivate,
            false,
            false,
        ),
        (
            "slave",
            MountPropagation::PropagationHostToContainer,
            true,
            false,
        ),
        (
            "both",
            MountPropagation::PropagationBidirectional,
            true,
            true,
        ),
    ] {
        let id = with_mount(
            node,
            &scene.image,
            name,
            handler,
            bind(shared.path(), wanted),
        )
        .await?;
        let below = shared.mount_below("from-host")?;
        let seen = output(node, &id, "ls /volume/from-host").await?;
        ensure!((seen == "seen") == in_container, "{name}: {seen}");
        unmount(&below, UnmountFlags::DETACH)?;
        output(node, &id, "mkdir -p /volume/inside && mount -t tmpfs t /volume/inside && touch /volume/inside/seen").await?;
        let seen = shared.path().join("inside/seen").exists();
        ensure!(seen == on_host, "{name}: on the host {seen}");
        output(node, &id, "umount /volume/inside").await?;
        node.remove_pods().await?;
    }
    // A mount that spreads nothing cannot be asked to.
    let private = OwnMount::new(
        node.place().base().join("private"),
        MountPropagationFlags::PRIVATE,
    )?;
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, handler).await?;
    for (wanted, part) in [
        (
            MountPropagation::PropagationHostToContainer,
            "but it is not a shared or slave mount",
        ),
        (
            MountPropagation::PropagationBidirectional,
            "but it is not a shared mount",
        ),
    ] {
        let mut container = node.container("main", &scene.image, &["true"]);
        container.mounts.push(bind(private.path(), wanted));
        refused(
            node.client.create(&pod_id, &container, &pod).await,
            ANY,
            &[part],
        )?;
    }
    drop((shared, private));
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn recursively_read_only() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let outer = OwnMount::new(
        node.place().base().join("outer"),
        MountPropagationFlags::SHARED,
    )?;
    outer.mount_below("inner")?;
    for (name, recursive) in [("plain", false), ("recursive", true)] {
        let mut mount = bind(outer.path(), MountPropagation::PropagationPrivate);
        mount.readonly = true;
        mount.recursive_read_only = recursive;
        let id = with_mount(node, &scene.image, name, "", mount).await?;
        denied(node, &id, "touch /volume/x", "Read-only").await?;
        if recursive {
            denied(node, &id, "touch /volume/inner/x", "Read-only").await?;
        } else {
            output(node, &id, "touch /volume/inner/x").await?;
        }
        let status = node.client.container_status(&id).await?;
        let listed = status
            .mounts
            .iter()
            .find(|mount| mount.container_path == "/volume");
        ensure!(
            listed.is_some_and(|m| m.recursive_read_only == recursive),
            "{listed:?}"
        );
        node.remove_pods().await?;
    }
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let base = v1::Mount {
        recursive_read_only: true,
        readonly: true,
        ..bind(outer.path(), MountPropagation::PropagationPrivate)
    };
    for (mount, part) in [
        (
            v1::Mount {
                readonly: false,
                ..base.clone()
            },
            "recursive read-only mount conflicts with",
        ),
        (
            v1::Mount {
                propagation: MountPropagation::PropagationHostToContainer.into(),
                ..base
            },
            "recursive read-only mount requires private propagation",
        ),
    ] {
        let mut container = node.container("main", &scene.image, &["true"]);
        container.mounts.push(mount);
        refused(
            node.client.create(&pod_id, &container, &pod).await,
            ANY,
            &[part],
        )?;
    }
    drop(outer);
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_roots() -> Result<()> {
    skip_unless!(possible());
    for (name, keys, requested, scratch) in [
        ("requested", "", true, false),
        ("configured", "read_only = true", false, true),
    ] {
        let scene = Scene::start_with(NodeOptions {
            runtime_keys: keys.to_owned(),
            ..Default::default()
        })
        .await?;
        let node = &scene.node;
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        security(&mut container).readonly_rootfs = requested;
        let (_, id) = node.run(&node.pod(name), &container, "").await?;
        denied(node, &id, "touch /new", "Read-only").await?;
        if scratch {
            output(node, &id, "touch /run/x /tmp/x /var/tmp/x").await?;
        } else {
            denied(node, &id, "touch /tmp/x", "Read-only").await?;
        }
        output(node, &id, "touch /dev/shm/x && echo x > /dev/null").await?;
        scene.node.finish().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn masked_and_read_only_paths_are_the_requests() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let context = security(&mut container);
    context.masked_paths = vec![
        "/etc/group".to_owned(),
        "/var/www".to_owned(),
        "/not/there".to_owned(),
    ];
    context.readonly_paths = vec!["/proc/sys".to_owned(), "/home".to_owned()];
    let (_, id) = node.run(&node.pod("masked"), &container, "").await?;
    let seen = output(
        node,
        &id,
        "cat /etc/group /proc/interrupts; ls -A /var/www; stat -c %t:%T /etc/group",
    )
    .await?;
    ensure!(seen == "1:3", "{seen}");
    denied(node, &id, "touch /home/x", "Read-only").await?;
    denied(node, &id, "touch /var/www/x", "Read-only").await?;
    denied(node, &id, "echo x > /proc/sys/kernel/hostname", "Read-only").await?;
    node.remove_pods().await?;
    // Nothing is hidden where nothing is to be.
    let context = security(&mut container);
    context.masked_paths.clear();
    context.readonly_paths.clear();
    let (_, id) = node.run(&node.pod("open"), &container, "").await?;
    output(
        node,
        &id,
        "touch /home/x && cat /proc/interrupts >/dev/null",
    )
    .await?;
    let mounts = output(node, &id, "grep -c ' /proc/' /proc/self/mountinfo || true").await?;
    ensure!(mounts == "0", "{mounts} mounts below /proc");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_mounts_nothing_on_the_host() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    // Destinations that try to leave the root.
    for place in ["/a/../../../b", ""] {
        container.mounts = vec![v1::Mount {
            container_path: place.to_owned(),
            host_path: node.place().base().display().to_string(),
            ..Default::default()
        }];
        let answer = node.run(&node.pod("refused"), &container, "").await;
        ensure!(answer.is_err(), "{place:?} was mounted at");
        node.remove_pods().await?;
    }
    eventually("nothing is left", async || {
        ensure!(node.client.list_pods().await?.is_empty());
        Ok(())
    })
    .await?;
    scene.node.finish().await
}
