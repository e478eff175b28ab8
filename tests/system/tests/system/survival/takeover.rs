//! A node with running pods changes hands between CRI-O and us, both ways.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, ContainerState};
use crioxide_test_support::image::{Format, ImageBuilder};
use crioxide_test_support::node::pod_namespaces;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, ScriptedRegistry, TestNode, requirements, skip_unless};
use serde_json::json;

use crate::scene::possible;
use crate::smoke::crun_works_here;
use crate::streaming::{attach::greet, forward};

/// Names a CRI-O program; `pinns` has to be in the same directory.
const CRI_O: &str = "CRIOXIDE_TEST_CRIO";
/// What both speak; CRI-O refuses the newest one of WebSocket.
const SPDY: &str = "v4.channel.k8s.io";

fn cri_o(runtime: &str) -> Result<PathBuf, String> {
    requirements::program("conmon")?;
    requirements::program(runtime)?;
    requirements::program("/usr/lib/cni/bridge")?;
    match std::env::var_os(CRI_O) {
        Some(path) => Ok(path.into()),
        None => Err(format!("needs CRI-O, named by {CRI_O}")),
    }
}

/// What a daemon says of everything there is.
#[derive(Debug, PartialEq)]
struct Said {
    pods: Vec<v1::PodSandbox>,
    pod_statuses: Vec<v1::PodSandboxStatus>,
    containers: Vec<v1::Container>,
    container_statuses: Vec<v1::ContainerStatus>,
}

impl Said {
    async fn by(node: &TestNode) -> Result<Self> {
        let client = &node.client;
        let mut pods = client.list_pods().await?;
        let mut containers = client.list_containers().await?;
        pods.sort_by(|a, b| a.id.cmp(&b.id));
        containers.sort_by(|a, b| a.id.cmp(&b.id));
        let (mut pod_statuses, mut container_statuses) = (Vec::new(), Vec::new());
        for pod in &pods {
            pod_statuses.push(client.pod_status(&pod.id).await?);
        }
        // CRI-O never says which handler a pod has.
        for pod in &mut pods {
            pod.runtime_handler.clear();
        }
        for status in &mut pod_statuses {
            status.runtime_handler.clear();
            // After a restart CRI-O has forgotten the address of a pod that is stopped.
            if status.state() == v1::PodSandboxState::SandboxNotready {
                status.network = None;
            }
        }
        for container in &containers {
            container_statuses.push(client.container_status(&container.id).await?);
        }
        // Here CRI-O tells the end of the creation, and the beginning in the list; we the beginning in both.
        // CRI-O never says which signal stops a container.
        for status in &mut container_statuses {
            status.created_at = 0;
            status.stop_signal = v1::Signal::RuntimeDefault.into();
        }
        Ok(Self {
            pods,
            pod_statuses,
            containers,
            container_statuses,
        })
    }

    /// Fails with the first thing that differs.
    fn ensure_same(&self, other: &Self) -> Result<()> {
        fn each<T: PartialEq + std::fmt::Debug>(what: &str, a: &[T], b: &[T]) -> Result<()> {
            ensure!(a.len() == b.len(), "{what}: {} and {}", a.len(), b.len());
            for (a, b) in a.iter().zip(b) {
                ensure!(a == b, "{what} differs:\n{a:#?}\n{b:#?}");
            }
            Ok(())
        }
        each("a pod", &self.pods, &other.pods)?;
        each("a pod's status", &self.pod_statuses, &other.pod_statuses)?;
        each("a container", &self.containers, &other.containers)?;
        each(
            "a container's status",
            &self.container_statuses,
            &other.container_statuses,
        )
    }
}

struct Pods {
    web: v1::PodSandboxConfig,
    web_id: String,
    runs: String,
    ends: String,
    created: String,
    inner: String,
    port: i32,
}

/// The pods of a small node: running, ended, killed for memory, never started, with an infra container, stopped.
async fn make_pods(node: &TestNode, image: &str, handler: &str) -> Result<Pods> {
    let client = &node.client;
    let mut web = node.pod("web");
    let port = 18_000 + i32::try_from(std::process::id() % 10_000)?;
    web.port_mappings.push(v1::PortMapping {
        container_port: 80,
        host_port: port,
        ..Default::default()
    });
    web.annotations
        .insert("note".into(), "a < b & \"c\"".into());
    let serve = "mkdir -p /www; echo hello > /www/index.html; httpd -p 80 -h /www; \
                 i=0; while [ ! -e /end ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 9";
    let (web_id, runs) = node
        .run(
            &web,
            &node.container("runs", image, &["sh", "-c", serve]),
            handler,
        )
        .await
        .context("the pod `web`")?;
    let wait = "while [ ! -e /end ]; do sleep 0.05; done; exit 5";
    let ends = client
        .create(
            &web_id,
            &node.container("ends", image, &["sh", "-c", wait]),
            &web,
        )
        .await?;
    client.start(&ends).await?;
    let three = client
        .create(
            &web_id,
            &node.container("three", image, &["sh", "-c", "exit 3"]),
            &web,
        )
        .await?;
    client.start(&three).await?;
    node.exited(&three).await?;
    let mut greedy = node.container("greedy", image, &["sh", "-c", "tail /dev/zero"]);
    if let Some(resources) = greedy
        .linux
        .as_mut()
        .and_then(|linux| linux.resources.as_mut())
    {
        resources.memory_limit_in_bytes = 32 << 20;
        resources.memory_swap_limit_in_bytes = 32 << 20;
    }
    let greedy = client.create(&web_id, &greedy, &web).await?;
    client.start(&greedy).await?;
    node.exited(&greedy).await?;
    let created = client
        .create(
            &web_id,
            &node.container("created", image, &["sh", "-c", "exit 4"]),
            &web,
        )
        .await?;

    let mut shared = node.pod("shared");
    let mut inner = node.container("inner", image, &["cat"]);
    inner.stdin = true;
    // CRI-O gives an infra container a lower OOM score than its own, for which a container host may lack the right.
    if may_lower_oom_scores()? {
        for security in [
            shared
                .linux
                .as_mut()
                .and_then(|linux| linux.security_context.as_mut())
                .map(|security| &mut security.namespace_options),
            inner
                .linux
                .as_mut()
                .and_then(|linux| linux.security_context.as_mut())
                .map(|security| &mut security.namespace_options),
        ] {
            *security.context("a security context")? = Some(pod_namespaces(v1::NamespaceMode::Pod));
        }
    }
    let (_, inner) = node
        .run(&shared, &inner, handler)
        .await
        .context("the pod `shared`")?;

    let stopped = node.pod("stopped");
    let (stopped_id, _) = node
        .run(&stopped, &node.container("done", image, &["true"]), handler)
        .await?;
    client.stop_pod(&stopped_id).await?;
    Ok(Pods {
        web,
        web_id,
        runs,
        ends,
        created,
        inner,
        port,
    })
}

/// CAP_SYS_RESOURCE.
fn may_lower_oom_scores() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(line.context("a line CapEff")?.trim(), 16)?;
    Ok(effective & 1 << 24 != 0)
}

fn fetch(port: i32) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let address = format!("{}:{port}", node_address()?);
    let mut stream = std::net::TcpStream::connect(&address).context(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    Ok(body.to_owned())
}

/// An address of this host that is not the loopback's, by which host ports are reached.
fn node_address() -> Result<String> {
    let done = std::process::Command::new("hostname").arg("-I").output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    Ok(text
        .split_whitespace()
        .next()
        .context("an address")?
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_cri_o_to_us_and_back_with_runc() -> Result<()> {
    skip_unless!(possible(), cri_o("runc"));
    there_and_back(cri_o("runc"), "conmon").await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_cri_o_to_us_and_back_with_crun() -> Result<()> {
    skip_unless!(possible(), cri_o("crun"), crun_works_here());
    there_and_back(cri_o("crun"), "conmon-crun").await
}

async fn there_and_back(cri_o: Result<PathBuf, String>, handler: &str) -> Result<()> {
    let cri_o = cri_o.map_err(anyhow::Error::msg)?;
    let ours = requirements::daemon().map_err(anyhow::Error::msg)?;
    let registry = ScriptedRegistry::start().await?;
    let image = registry.add(
        "test/busybox",
        "1",
        &ImageBuilder::busybox(Format::Oci)?.build()?,
    );
    let pause = ImageBuilder::busybox(Format::Oci)?
        .configure("Entrypoint", json!(["/bin/sleep", "100000"]))
        .configure("Cmd", json!([]));
    let pause = registry.add("test/pause", "1", &pause.build()?);
    let pinns = cri_o.with_file_name("pinns");
    let mut node = TestNode::start(NodeOptions {
        insecure_registries: vec![registry.host()],
        runtime_keys: format!("pinns_path = \"{}\"", pinns.display()),
        image_keys: format!("pause_image = \"{pause}\"\npause_command = \"\""),
        plugin_directories: vec!["/usr/lib/cni".into()],
        default_handler: handler.to_owned(),
        cni_cache: Some("/var/lib/cni".into()),
        program: Some(cri_o.clone()),
        ..NodeOptions::default()
    })
    .await?;
    node.client.pull(&image).await.context("PullImage")?;
    let pods = make_pods(&node, &image, handler).await?;
    // What a daemon reads from the records is compared with what the other reads from them.
    node.stop().await?;
    node.start_again().await?;
    let before = Said::by(&node).await?;
    ensure!(fetch(pods.port)? == "hello\n");

    node.stop().await?;
    node.switch_to(ours.clone());
    let pid = crate::survival::restart::pid_in_records(&node, &pods.ends)?;
    std::fs::write(format!("/proc/{pid}/root/end"), "")?;
    eventually("a container ends while nobody is there", async || {
        ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        Ok(())
    })
    .await?;
    node.start_again().await?;
    let taken = Said::by(&node).await?;
    let ended = node.exited(&pods.ends).await?;
    ensure!(
        ended.exit_code == 5 && ended.finished_at > ended.started_at,
        "{ended:?}"
    );
    without(&before, &pods.ends).ensure_same(&without(&taken, &pods.ends))?;
    usable(&node, &pods).await?;
    node.client.start(&pods.created).await?;
    ensure!(node.exited(&pods.created).await?.exit_code == 4);
    // One more of ours in a pod of theirs, and a pod that is all ours.
    let more = node.container("more", &image, &["sleep", "600"]);
    let more = node.client.create(&pods.web_id, &more, &pods.web).await?;
    node.client.start(&more).await?;
    let (_, own) = node
        .run(
            &node.pod("own"),
            &node.container("own", &image, &["sleep", "600"]),
            handler,
        )
        .await?;
    let ours_said = Said::by(&node).await?;

    node.stop().await?;
    node.switch_to(cri_o);
    node.start_again().await?;
    let back = Said::by(&node).await?;
    ours_said.ensure_same(&back)?;
    usable(&node, &pods).await?;
    for id in [&more, &own] {
        let done = node.client.exec(id, &["echo", "here"], 30).await?;
        ensure!(done.stdout == b"here\n", "{done:?}");
    }
    node.client.stop(&own, 0).await?;
    ensure!(node.client.container_status(&own).await?.exit_code == 137);

    node.stop().await?;
    node.switch_to(ours);
    node.start_again().await?;
    let done = node.client.exec(&pods.runs, &["touch", "/end"], 30).await?;
    ensure!(done.exit_code == 0, "{done:?}");
    ensure!(node.exited(&pods.runs).await?.exit_code == 9);
    node.finish().await
}

/// Without the container that ended meanwhile.
fn without(said: &Said, id: &str) -> Said {
    Said {
        pods: said.pods.clone(),
        pod_statuses: said.pod_statuses.clone(),
        containers: said
            .containers
            .iter()
            .filter(|c| c.id != id)
            .cloned()
            .collect(),
        container_statuses: said
            .container_statuses
            .iter()
            .filter(|c| c.id != id)
            .cloned()
            .collect(),
    }
}

/// Exec, attach, log, its rotation, statistics, ports and host ports, whoever made the pods.
async fn usable(node: &TestNode, pods: &Pods) -> Result<()> {
    let client = &node.client;
    let status = client.container_status(&pods.runs).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "{status:?}"
    );
    for id in [&pods.runs, &pods.inner] {
        let done = client
            .exec(id, &["sh", "-c", "echo out; echo err >&2; exit 6"], 30)
            .await?;
        ensure!(
            done.stdout == b"out\n" && done.stderr == b"err\n" && done.exit_code == 6,
            "{done:?}"
        );
    }
    let path = PathBuf::from(&status.log_path);
    std::fs::rename(&path, path.with_extension("old"))?;
    let request = v1::ReopenContainerLogRequest {
        container_id: pods.runs.clone(),
    };
    client.runtime.clone().reopen_container_log(request).await?;
    eventually("the log goes on", async || {
        ensure!(std::fs::metadata(&path)?.len() > 0);
        Ok(())
    })
    .await?;
    let stats = client
        .container_stats(&pods.runs)
        .await?
        .context("statistics")?;
    let memory = stats.memory.and_then(|memory| memory.working_set_bytes);
    ensure!(memory.is_some_and(|bytes| bytes.value > 0), "{memory:?}");
    ensure!(
        fetch(pods.port)? == "hello\n",
        "the host port leads to the pod"
    );
    let whole = |bytes: &[u8]| bytes.ends_with(b"\r\n\r\nhello\n");
    let request = b"GET / HTTP/1.0\r\n\r\n";
    let answer = forward::answer(node, &pods.web_id, 80, request, whole).await?;
    ensure!(whole(&answer), "{answer:?}");
    greet(node, &pods.inner, SPDY).await.context("Attach")?;
    Ok(())
}
