//! What is shown, in order: image, daemon, pod, container, and what a user would want to see of them.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use crioxide_cri_api::v1;
use crioxide_demo_image::{PORT, Part, REFERENCE};

use super::{Client, Daemon, Place, Report, image, network, web};

const POD: &str = "web";
const NAMESPACE: &str = "demo";
const CONTAINER: &str = "server";
const LOG: &str = "server.log";
/// Largest log that is shown, bytes.
const LOG_LIMIT: u64 = 64 << 10;
const MEMORY_LIMIT: i64 = 256 << 20;

/// Plays it. The daemon is handed out as soon as there is one, as somebody has to end it.
pub(super) async fn play(
    report: &mut Report,
    place: &Place,
    daemon: &mut Option<Daemon>,
) -> anyhow::Result<()> {
    report
        .step("make and load the image", async {
            image::write_configuration(place)?;
            image::load(place).await
        })
        .await?;
    report
        .step("start the daemon", async {
            let (started, listener) = Daemon::start(place)?;
            let daemon = daemon.insert(started);
            daemon.ready(&listener).await?;
            Ok(((), format!("process {}", daemon.pid())))
        })
        .await?;
    let mut client = Client::connect(&place.socket()).await?;

    let config = pod_config(place);
    let (pod, address) = report
        .step("RunPodSandbox", async {
            let pod = client.run_pod(&config).await?;
            let address = client.pod_address(&pod).await?;
            let detail = format!("address {address} on bridge {}", place.bridge());
            Ok(((pod, address), detail))
        })
        .await?;
    let container = report
        .step("CreateContainer", async {
            let id = client.create(&pod, &container_config(), &config).await?;
            Ok((id.clone(), format!("id {}", short(&id))))
        })
        .await?;
    report
        .step("StartContainer", async {
            client.start(&container).await?;
            Ok(((), Part::Web.command().join(" ")))
        })
        .await?;
    let page = report
        .step("HTTP from the host", async {
            let page = web::get(&format!("{address}:{PORT}")).await?;
            let status = page.status.clone();
            Ok((page, status))
        })
        .await?;
    let output = report
        .step("ExecSync", async {
            let answer = client.exec(&container, &Part::Inside.command()).await?;
            let error = String::from_utf8_lossy(&answer.stderr).into_owned();
            ensure!(
                answer.exit_code == 0,
                "the command ended with {}: {}",
                answer.exit_code,
                error.trim()
            );
            Ok((
                String::from_utf8_lossy(&answer.stdout).into_owned(),
                "exit code 0".to_owned(),
            ))
        })
        .await?;
    let stats = report
        .step("ContainerStats", async {
            Ok((client.stats(&container).await?, String::new()))
        })
        .await?;

    show_tables(report, &mut client, &address).await?;
    report.block(
        &format!("The page at http://{address}:{PORT}/"),
        page.body.lines(),
    );
    report.block(
        &format!(
            "The output of `{}` in the container",
            Part::Inside.command().join(" ")
        ),
        output.lines(),
    );
    report.block(
        "The container's log",
        log_lines(&place.pod_logs().join(LOG))?,
    );
    report.block("What the container uses", usage(&stats));
    if place.masquerade == network::Masquerade::Unavailable {
        report.block(
            "Note",
            ["this kernel has no nftables: the pod cannot reach other hosts"],
        );
    }
    Ok(())
}

fn pod_config(place: &Place) -> v1::PodSandboxConfig {
    let stamp = now().as_nanos();
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: POD.to_owned(),
            uid: format!("demo-{stamp}"),
            namespace: NAMESPACE.to_owned(),
            attempt: 0,
        }),
        hostname: POD.to_owned(),
        log_directory: place.pod_logs().display().to_string(),
        labels: labels(&[("app", POD)]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: place.cgroup_parent(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: CONTAINER.to_owned(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: REFERENCE.to_owned(),
            user_specified_image: REFERENCE.to_owned(),
            ..Default::default()
        }),
        log_path: LOG.to_owned(),
        labels: labels(&[("io.kubernetes.container.name", CONTAINER)]),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: MEMORY_LIMIT,
                cpu_shares: 512,
                ..Default::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                no_new_privs: true,
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// `own`, and the kubelet's, which clients name pods by.
fn labels(own: &[(&str, &str)]) -> HashMap<String, String> {
    let kubelet = [
        ("io.kubernetes.pod.name", POD),
        ("io.kubernetes.pod.namespace", NAMESPACE),
    ];
    let all = own.iter().chain(&kubelet);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Network and IPC are the pod's, process ids the container's.
fn namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: v1::NamespaceMode::Pod.into(),
        pid: v1::NamespaceMode::Container.into(),
        ipc: v1::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

async fn show_tables(report: &Report, client: &mut Client, address: &str) -> anyhow::Result<()> {
    let row = |cells: &[&str]| {
        cells
            .iter()
            .map(|&cell| cell.to_owned())
            .collect::<Vec<_>>()
    };
    report.heading("Pods");
    let mut rows = vec![row(&[
        "POD ID",
        "NAME",
        "NAMESPACE",
        "STATE",
        "ADDRESS",
        "RUNTIME",
        "AGE",
    ])];
    for pod in client.pods().await? {
        let state = if pod.state() == v1::PodSandboxState::SandboxReady {
            "Ready"
        } else {
            "NotReady"
        };
        let metadata = pod.metadata.unwrap_or_default();
        let handler = if pod.runtime_handler.is_empty() {
            "(default)"
        } else {
            &pod.runtime_handler
        };
        rows.push(row(&[
            &short(&pod.id),
            &metadata.name,
            &metadata.namespace,
            state,
            address,
            handler,
            &age(pod.created_at),
        ]));
    }
    report.table(&rows);
    report.heading("Containers");
    let mut rows = vec![row(&[
        "CONTAINER",
        "NAME",
        "IMAGE",
        "STATE",
        "POD ID",
        "AGE",
    ])];
    for container in client.containers().await? {
        let state = format!("{:?}", container.state()).replace("Container", "");
        let metadata = container.metadata.unwrap_or_default();
        rows.push(row(&[
            &short(&container.id),
            &metadata.name,
            REFERENCE,
            &state,
            &short(&container.pod_sandbox_id),
            &age(container.created_at),
        ]));
    }
    report.table(&rows);
    Ok(())
}

fn log_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = crioxide_files::read_to_string_limited(path, LOG_LIMIT)
        .context("read the container's log")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn usage(stats: &v1::ContainerStats) -> Vec<String> {
    let value = |value: Option<v1::UInt64Value>| value.map(|value| value.value);
    let cpu = stats
        .cpu
        .as_ref()
        .and_then(|cpu| value(cpu.usage_core_nano_seconds));
    let memory = stats.memory.as_ref();
    let mut lines = Vec::new();
    if let Some(nanoseconds) = cpu {
        lines.push(format!(
            "CPU     {:.1} ms so far",
            Duration::from_nanos(nanoseconds).as_secs_f64() * 1000.0
        ));
    }
    if let Some(bytes) = memory.and_then(|memory| value(memory.working_set_bytes)) {
        lines.push(format!(
            "memory  {} of {}",
            size(bytes),
            size(MEMORY_LIMIT.unsigned_abs())
        ));
    }
    lines
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes >> 10)
    } else {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    }
}

fn short(id: &str) -> String {
    id.chars().take(13).collect()
}

/// Since `created`, in nanoseconds of the epoch.
fn age(created: i64) -> String {
    let since = now().saturating_sub(Duration::from_nanos(created.unsigned_abs()));
    if since < Duration::from_secs(1) {
        format!("{} ms", since.as_millis())
    } else {
        format!("{} s", since.as_secs())
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(700 << 10), "700 KiB");
        assert_eq!(size(3 << 19), "1.5 MiB");
    }

    #[test]
    fn missing_figures_are_left_out() {
        assert!(usage(&v1::ContainerStats::default()).is_empty());
        let stats = v1::ContainerStats {
            cpu: Some(v1::CpuUsage {
                usage_core_nano_seconds: Some(v1::UInt64Value { value: 1_500_000 }),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(usage(&stats), ["CPU     1.5 ms so far"]);
    }
}
