//! Requests that cannot be fulfilled: ids that do not exist, names taken, nonsense in the fields.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::skip_unless;
use tonic::Code;

use crate::scene::{Scene, possible, refused};

const BAD: &[Code] = &[
    Code::Unknown,
    Code::InvalidArgument,
    Code::NotFound,
    Code::Internal,
    Code::FailedPrecondition,
    Code::AlreadyExists,
];

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_do_not_exist() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let client = &scene.node.client;
    let id = "f".repeat(64);
    let missing = &[Code::NotFound];
    refused(client.pod_status(&id).await, missing, &[&id])?;
    refused(client.container_status(&id).await, missing, &[&id])?;
    refused(client.start(&id).await, missing, &[&id])?;
    refused(client.exec(&id, &["true"], 1).await, missing, &[&id])?;
    let pod = scene.node.pod("none");
    refused(
        client
            .create(
                &id,
                &scene.node.container("c", &scene.image, &["true"]),
                &pod,
            )
            .await,
        &[Code::NotFound, Code::Unknown],
        &[&id],
    )?;
    // Taking away what is not there has succeeded already.
    client.stop(&id, 0).await.context("StopContainer")?;
    client.remove(&id).await.context("RemoveContainer")?;
    client.stop_pod(&id).await.context("StopPodSandbox")?;
    client.remove_pod(&id).await.context("RemovePodSandbox")?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_belong_to_the_same_request() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let pod = node.pod("twin");
    // The kubelet repeats a request that it gave up waiting for: the answer is the pod there is, or that is being made.
    let answers = futures_util::future::join_all((0..5).map(|_| client.run_pod(&pod, ""))).await;
    let mut pods = BTreeSet::new();
    for answer in answers {
        pods.insert(answer.context("RunPodSandbox beside its like")?);
    }
    pods.insert(client.run_pod(&pod, "").await.context("repeated")?);
    ensure!(
        pods.len() == 1 && client.list_pods().await?.len() == 1,
        "{pods:?}"
    );
    let pod_id = pods.first().context("one pod")?;

    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let requests = (0..5).map(|_| client.create(pod_id, &container, &pod));
    let mut containers = BTreeSet::new();
    for answer in futures_util::future::join_all(requests).await {
        containers.insert(answer.context("CreateContainer beside its like")?);
    }
    let before = node.snapshot();
    let again = client.create(pod_id, &container, &pod).await;
    containers.insert(again.context("CreateContainer repeated")?);
    ensure!(
        containers.len() == 1 && client.list_containers().await?.len() == 1,
        "{containers:?}"
    );
    node.nothing_left(&before).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_make_no_sense() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let before = node.snapshot();
    let swappiness = std::fs::read_to_string("/proc/sys/vm/swappiness")?;
    type Change = fn(&mut v1::PodSandboxConfig);
    let changes: [(&str, Change); 5] = [
        ("no metadata", |pod| pod.metadata = None),
        ("no name", |pod| {
            pod.metadata.as_mut().expect("metadata").name.clear()
        }),
        ("a host name that is too long", |pod| {
            pod.hostname = "x".repeat(70)
        }),
        ("a sysctl of the host", |pod| {
            pod.linux
                .as_mut()
                .expect("linux")
                .sysctls
                .insert("vm.swappiness".to_owned(), "13".to_owned());
        }),
        ("too many search domains", |pod| {
            pod.dns_config.as_mut().expect("dns").searches = (0..300)
                .map(|n| format!("{n}.{}.example", "d".repeat(60)))
                .collect();
        }),
    ];
    for (what, change) in changes {
        let mut pod = node.pod("nonsense");
        change(&mut pod);
        match node.client.run_pod(&pod, "").await {
            // CRI-O cuts long names short and passes over sysctls that are not the pod's own, with a warning.
            Ok(id) if !what.starts_with("no ") => {
                node.client.stop_pod(&id).await?;
                node.client.remove_pod(&id).await?;
            }
            answer => refused(answer, BAD, &[]).context(what)?,
        }
    }
    ensure!(
        std::fs::read_to_string("/proc/sys/vm/swappiness")? == swappiness,
        "a pod changed a setting of the host"
    );
    refused(
        node.client
            .run_pod(&node.pod("nonsense"), "no-such-handler")
            .await,
        BAD,
        &["no-such-handler"],
    )?;
    node.nothing_left(&before).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_make_no_sense() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let pod = node.pod("host");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let before = node.snapshot();
    type Change = fn(&mut v1::ContainerConfig);
    let changes: [(&str, &str, Change); 8] = [
        ("no metadata", "metadata", |container| {
            container.metadata = None
        }),
        ("no image", "config.Image", |container| {
            container.image = None
        }),
        (
            "an image that is not here",
            "registry.invalid/none",
            |container| {
                container.image = Some(crioxide_test_support::client::image_spec(
                    "registry.invalid/none:1",
                ));
            },
        ),
        (
            "a command that is not in the image",
            "/no/such/program",
            |container| container.command = vec!["/no/such/program".to_owned()],
        ),
        ("an unknown user", "nobody-knows", |container| {
            security(container).run_as_username = "nobody-knows".to_owned();
        }),
        ("a mount without a target", "mount", |container| {
            container.mounts.push(v1::Mount {
                host_path: "/tmp".to_owned(),
                ..Default::default()
            })
        }),
        ("a capability that does not exist", "TO_FLY", |container| {
            security(container).capabilities = Some(v1::Capability {
                add_capabilities: vec!["TO_FLY".to_owned()],
                ..Default::default()
            });
        }),
        (
            "a log path outside of the log directory",
            "log",
            |container| container.log_path = "../../escape.log".to_owned(),
        ),
    ];
    for (what, part, change) in changes {
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        change(&mut container);
        let answer = match node.client.create(&pod_id, &container, &pod).await {
            // What only the kernel can tell may come out at start.
            Ok(id) => {
                let started = node.client.start(&id).await;
                node.client.remove(&id).await?;
                started
            }
            Err(status) => Err(status),
        };
        refused(answer, BAD, &[part]).context(what)?;
        node.nothing_left(&before).await.context(what)?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_mount_source_is_named() -> Result<()> {
    skip_unless!(possible());
    let folder = tempfile::tempdir()?;
    let rejected = folder.path().join("rejected");
    let options = crioxide_test_support::NodeOptions {
        runtime_keys: format!(
            "absent_mount_sources_to_reject = [\"{}\"]",
            rejected.display()
        ),
        ..Default::default()
    };
    let scene = Scene::start_with(options).await?;
    let node = &scene.node;
    let pod = node.pod("mounts");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let before = node.snapshot();
    let file = node.place().base().join("a-file");
    std::fs::write(&file, "")?;
    let below_file = file.join("below").display().to_string();
    let mut container = node.container("main", &scene.image, &["true"]);
    container.mounts.push(v1::Mount {
        container_path: "/data".to_owned(),
        host_path: below_file.clone(),
        ..Default::default()
    });
    refused(
        node.client
            .create(&pod_id, &container, &pod)
            .await
            .map(drop),
        BAD,
        &[&below_file],
    )?;
    node.nothing_left(&before).await?;

    container.mounts[0].host_path = rejected.display().to_string();
    refused(
        node.client
            .create(&pod_id, &container, &pod)
            .await
            .map(drop),
        BAD,
        &["rejected"],
    )?;
    ensure!(!rejected.exists(), "made although it is to be rejected");
    // A directory that is only missing is made, as CRI-O and the kubelet have it.
    let missing = node.place().base().join("missing");
    container.mounts[0].host_path = missing.display().to_string();
    node.client.create(&pod_id, &container, &pod).await?;
    ensure!(missing.is_dir(), "not made");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_requests() -> Result<()> {
    skip_unless!(possible());
    let options = crioxide_test_support::NodeOptions {
        api_keys: "grpc_max_recv_msg_size = 1048576".to_owned(),
        ..Default::default()
    };
    let scene = Scene::start_with(options).await?;
    let mut pod = scene.node.pod("big");
    pod.annotations
        .insert("big".to_owned(), "x".repeat(2 << 20));
    let answer = scene.node.client.run_pod(&pod, "").await;
    refused(
        answer,
        &[Code::OutOfRange, Code::ResourceExhausted],
        &["1048576"],
    )?;
    ensure!(scene.node.client.list_pods().await?.is_empty());
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() -> Result<()> {
    skip_unless!(possible());
    let disk = tempfile::tempdir()?;
    let mounted = Mounted::small(disk.path())?;
    let options = crioxide_test_support::NodeOptions {
        root: Some(disk.path().join("root")),
        ..Default::default()
    };
    let scene = Scene::start_with(options).await?;
    let node = &scene.node;
    let before = node.snapshot();
    let filler = disk.path().join("filler");
    fill(&filler);
    let layer = crioxide_test_support::image::Layer::new().file("more", &vec![7; 1 << 20], 0o644);
    let image = crioxide_test_support::image::ImageBuilder::busybox(
        crioxide_test_support::image::Format::Oci,
    )?
    .layer(layer, crioxide_test_support::image::Compression::Gzip)
    .build()?;
    let name = scene.registry.add("test/more", "1", &image);
    refused(
        node.client.pull(&name).await,
        &[Code::Unknown, Code::Internal, Code::ResourceExhausted],
        &["o space left"],
    )?;
    let pod = node.pod("full");
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let answer = match node.client.run_pod(&pod, "").await {
        // What the pod takes may just have fitted.
        Ok(id) => {
            fill(&disk.path().join("more-filler"));
            node.client.create(&id, &container, &pod).await
        }
        failed => failed,
    };
    refused(answer, BAD, &["o space left"]).context("a pod on a full disk")?;
    std::fs::remove_file(&filler)?;
    // Not there where the pod was refused.
    let _ = std::fs::remove_file(disk.path().join("more-filler"));
    node.remove_pods().await?;
    node.nothing_left(&before)
        .await
        .context("after a pull and a pod on a full disk")?;
    node.client.pull(&name).await.context("with room again")?;
    node.run(&pod, &container, "")
        .await
        .context("with room again")?;
    let finished = scene.node.finish().await;
    drop(mounted);
    finished
}

/// A tmpfs of 64 MiB; unmounted on drop.
#[derive(Debug)]
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn small(path: &std::path::Path) -> Result<Self> {
        use rustix::mount::{MountFlags, mount};
        mount(
            "none",
            path,
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=64m"),
        )
        .context("mount a small tmpfs")?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed may still have files open there.
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Writes until nothing more fits.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    if let Ok(mut file) = std::fs::File::create(path) {
        let block = vec![0; 64 << 10];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..1]).is_ok() {}
    }
}

fn security(container: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    let linux = container
        .linux
        .as_mut()
        .expect("a container of the tests is a Linux container");
    linux
        .security_context
        .as_mut()
        .expect("a container of the tests has a security context")
}
