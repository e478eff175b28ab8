//! How the daemon does with more and more pods beside the one that is measured, and what it weighs meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crioxide_cri_api::v1;

use crate::daemon::{Ids, Node};
use crate::options::Options;
use crate::processes::{Footprint, processor_time, wake_ups};
use crate::report::{Plot, Report, millis};
use crate::samples::quantile;

/// Samples of each quick call.
const CALLS: usize = 11;
/// Containers added to one pod to weigh a further one.
const FURTHER: usize = 8;

/// After this time a burst of work is over for the daemon: threads that nobody needs have ended.
const REST: Duration = Duration::from_secs(5);

/// Measures at each of the wanted numbers of pods, and takes them down again.
pub(crate) async fn measure(node: &mut Node, options: &Options, report: &mut Report) -> Result<()> {
    tokio::time::sleep(REST).await;
    let rest = Footprint::of(node.pid()?)?;
    report.figure("daemon at rest, PSS", kib(rest.daemon), "KiB");
    report.figure(
        "daemon at rest, own memory",
        kib(rest.daemon_private),
        "KiB",
    );
    report.figure("daemon at rest, threads", kib(rest.threads), "");
    report.figure("idle wake-ups", wake_ups(node.pid()?).await?, "/s");
    let program = format!("/proc/{}/exe", node.pid()?);
    let bytes = std::fs::metadata(&program).with_context(|| format!("read `{program}`"))?;
    report.figure("program on disk", kib(bytes.len()) / 1024.0, "KiB");
    let mut pods: Vec<Ids> = Vec::new();
    for &wanted in &options.scale {
        let names = (pods.len()..wanted).map(|number| format!("scale{number}"));
        pods.extend(node.all_up(names, options.at_once).await?);
        at(node, &pods, options, report).await?;
        let took = node.restart().await?;
        report.plot(Plot::Starts, "start", pods.len(), millis(took));
        node.all_are_up(&pods).await?;
    }
    if let Some((pod, _)) = pods.first() {
        further_containers(node, pod, report).await?;
    }
    for (at, (pod, _)) in pods.iter().enumerate().skip(1) {
        node.another(pod, &format!("second{at}")).await?;
    }
    if !pods.is_empty() {
        let took = node.restart().await?;
        let containers = node
            .client()
            .list_containers()
            .await
            .context("ListContainers")?;
        report.call(&format!("start with {} containers", containers.len()), took);
    }
    node.all_down_with_containers(&pods, options.at_once).await
}

/// Everything that is asked of a node with these pods.
async fn at(node: &Node, pods: &[Ids], options: &Options, report: &mut Report) -> Result<()> {
    let count = pods.len();
    tokio::time::sleep(REST).await;
    let footprint = Footprint::of(node.pid()?)?;
    let per_pod = |value: u64| kib(value) / kib(count.max(1) as u64);
    let name = |what: &str| format!("{what} at {count} pods");
    report.figure(&name("daemon, PSS"), kib(footprint.daemon), "KiB");
    report.figure(
        &name("daemon, own memory"),
        kib(footprint.daemon_private),
        "KiB",
    );
    report.figure(&name("daemon, threads"), kib(footprint.threads), "");
    report.figure(&name("daemon, descriptors"), kib(footprint.descriptors), "");
    report.figure(
        &name("other processes per pod, PSS"),
        per_pod(footprint.others),
        "KiB",
    );
    let mebibytes = |value: u64| kib(value) / 1024.0;
    report.plot(Plot::Memory, "daemon", count, mebibytes(footprint.daemon));
    let others = mebibytes(footprint.others);
    report.plot(Plot::Memory, "monitors and spawner", count, others);
    node.all_are_up(pods).await?;
    let probes = node.probes(pods, options.at_once).await?;
    report.point("probe of each pod", count, quantile(&probes, 0.5));
    let late = quantile(&probes, 0.99);
    report.figure(&name("probe of each pod, 99 %"), millis(late), "ms");
    let before = processor_time(node.pid()?)?;
    let (mut up, mut down, mut exec) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..CALLS {
        let life = node.pod(&format!("probe{count}x{round}")).await?;
        up.push(life.up);
        down.push(life.down);
        exec.push(life.exec);
    }
    let spent = processor_time(node.pid()?)?.saturating_sub(before);
    let per_life = spent.as_secs_f64() * 1e3 / kib(CALLS as u64);
    report.figure(&name("daemon's processor time per pod"), per_life, "ms");
    for (what, samples) in [("pod up", up), ("pod down", down), ("exec", exec)] {
        report.point(what, count, quantile(&samples, 0.5));
    }
    let client = node.client();
    let lists = sampled(async || client.list_pods().await.map(drop)).await;
    report.point("ListPodSandbox", count, lists.context("ListPodSandbox")?);
    let lists = sampled(async || client.list_containers().await.map(drop)).await;
    report.point("ListContainers", count, lists.context("ListContainers")?);
    let stats = sampled(async || {
        let request = v1::ListContainerStatsRequest::default();
        client
            .runtime
            .clone()
            .list_container_stats(request)
            .await
            .map(drop)
    });
    report.point(
        "ListContainerStats",
        count,
        stats.await.context("ListContainerStats")?,
    );
    let stats = sampled(async || {
        let request = v1::ListPodSandboxStatsRequest::default();
        client
            .runtime
            .clone()
            .list_pod_sandbox_stats(request)
            .await
            .map(drop)
    });
    report.point(
        "ListPodSandboxStats",
        count,
        stats.await.context("ListPodSandboxStats")?,
    );
    Ok(())
}

/// What containers beyond the first weigh in the monitor of their pod.
async fn further_containers(node: &Node, pod: &str, report: &mut Report) -> Result<()> {
    let before = Footprint::of(node.pid()?)?.others;
    for number in 0..FURTHER {
        node.another(pod, &format!("further{number}")).await?;
    }
    let after = Footprint::of(node.pid()?)?.others;
    let each = (kib(after) - kib(before)) / kib(FURTHER as u64);
    report.figure("monitor, each further container, PSS", each, "KiB");
    Ok(())
}

/// Pods up and down in batches, until so many have been; what stays behind grows.
pub(crate) async fn soak(node: &Node, options: &Options, report: &mut Report) -> Result<()> {
    let (mut done, mut early) = (0, None);
    while done < options.soak {
        node.batch(options.pods, options.at_once).await?;
        done += options.pods;
        let now = Footprint::of(node.pid()?)?;
        eprintln!(
            "{done} pods: {} KiB of its own, {} threads, {} descriptors",
            now.daemon_private, now.threads, now.descriptors
        );
        if early.is_none() && done * 5 >= options.soak {
            report.figure(
                "soak: daemon, own memory, after a fifth",
                kib(now.daemon_private),
                "KiB",
            );
            early = Some(now);
        }
    }
    let now = Footprint::of(node.pid()?)?;
    report.figure(
        "soak: daemon, own memory, at the end",
        kib(now.daemon_private),
        "KiB",
    );
    report.figure("soak: descriptors at the end", kib(now.descriptors), "");
    report.figure(
        "soak: other processes at the end",
        kib(now.other_processes),
        "",
    );
    Ok(())
}

/// Commands in one container, many at once; how many a second.
pub(crate) async fn execs(node: &Node, options: &Options, report: &mut Report) -> Result<()> {
    use futures_util::stream::{self, StreamExt, TryStreamExt};
    const EXECS: u32 = 1000;
    let pods = node.all_up(std::iter::once("execs".to_owned()), 1).await?;
    let container = pods[0].1.as_str();
    let started = Instant::now();
    stream::iter(0..EXECS)
        .map(|_| node.exec(container))
        .buffer_unordered(options.at_once)
        .try_collect::<Vec<Duration>>()
        .await?;
    let rate = f64::from(EXECS) / started.elapsed().as_secs_f64();
    report.figure(
        &format!("ExecSync, {} at once", options.at_once),
        rate,
        "/s",
    );
    let monitors = Footprint::of(node.pid()?)?;
    let each = kib(monitors.others);
    report.figure(
        &format!("spawner and a monitor after {EXECS} execs, PSS"),
        each,
        "KiB",
    );
    node.all_down(&pods, 1).await
}

/// The median of several calls.
async fn sampled(
    mut call: impl AsyncFnMut() -> crioxide_test_support::client::Answer<()>,
) -> Result<Duration> {
    let mut samples = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        call().await?;
        samples.push(started.elapsed());
    }
    Ok(quantile(&samples, 0.5))
}

#[expect(clippy::cast_precision_loss, reason = "counts of this size are exact")]
fn kib(value: u64) -> f64 {
    value as f64
}
