//! Metrics of pods by CRI, of the daemon by HTTP, and the inspect endpoints.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{NodeOptions, requirements, skip_unless};

use crate::scene::{Scene, possible};

#[tokio::test(flavor = "multi_thread")]
async fn of_pods_have_all_their_labels() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start_with(NodeOptions {
        more_tables: "[crio.stats]\nincluded_pod_metrics = [\"all\"]\n".to_owned(),
        ..NodeOptions::default()
    })
    .await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let linux = container.linux.as_mut().context("a Linux container")?;
    let resources = linux.resources.get_or_insert_default();
    resources.memory_limit_in_bytes = 64 << 20;
    resources.cpu_period = 100_000;
    resources.cpu_quota = 50_000;
    let (pod, id) = node.run(&node.pod("measured"), &container, "").await?;

    let mut runtime = node.client.runtime.clone();
    let request = v1::ListMetricDescriptorsRequest {};
    let described = runtime.list_metric_descriptors(request).await?.into_inner();
    ensure!(
        described.descriptors.len() == 56,
        "{}",
        described.descriptors.len()
    );
    let keys: HashMap<_, _> = described
        .descriptors
        .iter()
        .map(|descriptor| (descriptor.name.as_str(), &descriptor.label_keys))
        .collect();
    let request = v1::ListPodSandboxMetricsRequest {};
    let pods = runtime
        .list_pod_sandbox_metrics(request)
        .await?
        .into_inner()
        .pod_metrics;
    ensure!(pods.len() == 1 && pods[0].pod_sandbox_id == pod, "{pods:?}");
    let of_container = &pods[0].container_metrics;
    ensure!(of_container.len() == 1 && of_container[0].container_id == id);
    for metric in pods[0].metrics.iter().chain(&of_container[0].metrics) {
        let keys = keys.get(metric.name.as_str());
        let keys = keys.with_context(|| format!("{} is not described", metric.name))?;
        ensure!(keys.len() == metric.label_values.len(), "{metric:?}");
        ensure!(metric.timestamp > 0 && metric.value.is_some(), "{metric:?}");
    }
    let value = |name: &str| {
        let mut metrics = of_container[0].metrics.iter();
        metrics
            .find(|metric| metric.name == name)
            .and_then(|metric| metric.value)
    };
    for (name, expected) in [
        ("container_spec_memory_limit_bytes", 64 << 20),
        ("container_spec_cpu_quota", 50_000),
        ("container_processes", 1),
        ("container_threads", 1),
    ] {
        let value = value(name).with_context(|| name.to_owned())?.value;
        ensure!(value == expected, "{name} is {value}");
    }
    for name in [
        "container_memory_usage_bytes",
        "container_start_time_seconds",
        "container_last_seen",
    ] {
        ensure!(value(name).is_some_and(|value| value.value > 0), "{name}");
    }
    let interfaces: HashSet<_> = pods[0]
        .metrics
        .iter()
        .map(|m| m.label_values[5].as_str())
        .collect();
    ensure!(interfaces == HashSet::from(["eth0"]), "{interfaces:?}");

    let request = v1::StreamPodSandboxMetricsRequest {};
    let mut stream = runtime
        .stream_pod_sandbox_metrics(request)
        .await?
        .into_inner();
    let first = stream.message().await?.context("a message")?;
    ensure!(first.pod_sandbox_metrics.len() == 1);
    ensure!(stream.message().await?.is_none());
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_daemon_count_its_work() -> Result<()> {
    skip_unless!(possible());
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("metrics.sock");
    let scene = Scene::start_with(NodeOptions {
        more_tables: format!(
            "[crio.metrics]\nenable_metrics = true\nmetrics_port = 0\nmetrics_socket = \"{}\"\n",
            socket.display()
        ),
        ..NodeOptions::default()
    })
    .await?;
    let node = &scene.node;
    ensure!(node.client.pod_status("ffff").await.is_err());
    ensure!(node.client.pull(&scene.registry.host()).await.is_err());
    let container = node.container("main", &scene.image, &["true"]);
    let (_, id) = node.run(&node.pod("counted"), &container, "").await?;
    node.exited(&id).await?;
    let page = get(&socket, "/metrics")?;
    ensure!(page.starts_with("HTTP/1.0 200 OK"), "{page}");
    for line in [
        "operations_total{operation=\"RunPodSandbox\"} 1",
        "operations_total{operation=\"network_setup_pod\"} 1",
        "operations_errors_total{operation=\"PodSandboxStatus\"} 1",
        "operations_latency_seconds_total_count{operation=\"CreateContainer\"} 1",
        "image_pulls_success_total 1",
        "containers_oom_total 0",
        "processes_defunct ",
        "default_runtime{runtime=\"builtin\"} 1",
    ] {
        let line = format!("\ncontainer_runtime_crio_{line}");
        ensure!(page.contains(&line), "{line} is missing in\n{page}");
    }
    ensure!(page.contains("image_pulls_failure_total{error="), "{page}");
    ensure!(page.contains("\nprocess_resident_memory_bytes "), "{page}");
    ensure!(get(&socket, "/other")?.starts_with("HTTP/1.0 404"));
    scene.node.finish().await
}

/// The answer by HTTPS of a server whose certificate must be the one in `trusted`.
fn get_encrypted(port: u16, trusted: &Path) -> Result<String> {
    let mut client = std::process::Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-verify_ip"])
        .args(["127.0.0.1", "-connect", &format!("127.0.0.1:{port}")])
        .arg("-CAfile")
        .arg(trusted)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut input = client.stdin.take().context("an input")?;
    input.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let output = client.wait_with_output()?;
    drop(input); // the client must not see its end before the answer
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.stdout.is_empty(), "{said}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_daemon_by_https() -> Result<()> {
    skip_unless!(possible(), requirements::program("openssl"));
    let folder = tempfile::tempdir()?;
    let (certificate, key) = (
        folder.path().join("new/cert"),
        folder.path().join("new/key"),
    );
    // Free when asked; the daemon does not start if somebody else takes it.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let scene = Scene::start_with(NodeOptions {
        more_tables: format!(
            "[crio.metrics]\nenable_metrics = true\nmetrics_port = {port}\n\
             metrics_cert = \"{}\"\nmetrics_key = \"{}\"\n",
            certificate.display(),
            key.display()
        ),
        ..NodeOptions::default()
    })
    .await?;
    // Nobody made the files: the daemon did.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key)?);
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let first = folder.path().join("first");
    std::fs::copy(&certificate, &first)?;
    let page = get_encrypted(port, &first)?;
    ensure!(
        page.contains("container_runtime_crio_operations_total"),
        "{page}"
    );
    // Others are put in their place.
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=node"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let page = get_encrypted(port, &certificate)?;
    ensure!(page.starts_with("HTTP/1.0 200 OK"), "{page}");
    ensure!(get_encrypted(port, &first).is_err());
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_endpoints_share_the_socket() -> Result<()> {
    skip_unless!(possible());
    inspected("").await
}

pub(crate) async fn inspected(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (pod, id) = node
        .run(&node.pod("inspected"), &container, handler)
        .await?;
    let socket = node.place().socket();
    let status = |path: &str| -> Result<String> {
        let answer = get(&socket, path)?;
        Ok(answer
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned())
    };
    ensure!(get(&socket, "/config")?.contains("[crio.runtime]"));
    let info = body(&get(&socket, "/info")?)?;
    let driver = node.place().cgroup_driver();
    ensure!(
        info["storage_driver"] == "overlay" && info["cgroup_driver"] == driver,
        "{info}"
    );
    let found = body(&get(&socket, &format!("/containers/{id}"))?)?;
    ensure!(
        found["sandbox"] == pod.as_str() && found["pid"].as_i64() > Some(0),
        "{found}"
    );
    let infra = body(&get(&socket, &format!("/containers/{pod}"))?)?;
    ensure!(infra["ip_addresses"] == found["ip_addresses"], "{infra}");
    let missing = get(&socket, "/containers/ffff")?;
    ensure!(
        missing.contains("can't find the container with id ffff"),
        "{missing}"
    );
    ensure!(status("/containers/ffff")? == "404" && status("/debug/pprof/heap")? == "404");
    ensure!(get(&socket, "/debug/goroutines")?.contains("goroutine"));

    ensure!(status(&format!("/unpause/{id}"))? == "409");
    ensure!(status(&format!("/pause/{id}"))? == "200");
    let again = get(&socket, &format!("/pause/{id}"))?;
    ensure!(
        again.contains("now is paused") && again.contains(" 409 "),
        "{again}"
    );
    ensure!(
        node.client.container_status(&id).await?.state() == v1::ContainerState::ContainerRunning
    );
    ensure!(status(&format!("/unpause/{id}"))? == "200");
    node.client.exec(&id, &["true"], 30).await?;
    // A paused container stops all the same.
    ensure!(status(&format!("/pause/{id}"))? == "200");
    node.client.stop(&id, 0).await?;
    ensure!(status(&format!("/pause/{id}"))? == "409");

    let program = requirements::daemon().map_err(anyhow::Error::msg)?;
    let tool = |words: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new(&program);
        command.args(["status", "-s"]).arg(&socket).args(words);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    ensure!(tool(&["info"])?.contains("storage driver: overlay"));
    ensure!(tool(&["config"])?.contains("[crio]"));
    ensure!(tool(&["containers", "-i", &id])?.contains(&format!("sandbox: {pod}")));
    scene.node.finish().await
}

/// The whole answer, head and body.
pub(crate) fn get(socket: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).context("connect")?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: crio\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn body(answer: &str) -> Result<serde_json::Value> {
    let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
    Ok(serde_json::from_str(body)?)
}
