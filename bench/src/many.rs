//! Many different pulls at once: whether they keep the processors busy, and how long lists take meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crioxide_test_support::client::CriClient;
use futures_util::future::try_join_all;

use crate::daemon::Node;
use crate::report::{Report, millis};
use crate::samples::quantile;
use crate::{lists, processes, pull};

const PULLS: usize = 20;
/// Size of each image before compression, MiB.
const SIZE: usize = 16;
/// Between two rounds of lists.
const PAUSE: Duration = Duration::from_millis(2);

type Times = Vec<(&'static str, Vec<Duration>)>;

/// Pulls that many images, with lists all the while.
pub(crate) async fn pulls(node: &Node, report: &mut Report) -> Result<()> {
    let images = pull::different(PULLS, SIZE)?;
    let names: Vec<String> = images
        .iter()
        .enumerate()
        .map(|(number, image)| node.offer(&format!("bench/many-{number}"), image))
        .collect();
    drop(images);
    let stop = Arc::new(AtomicBool::new(false));
    let (socket, stopped) = (node.socket(), Arc::clone(&stop));
    let lists = tokio::task::spawn_blocking(move || {
        lists::calls_apart(socket, async move |client| calls(&client, &stopped).await)
    });
    let (started, machine) = (Instant::now(), processes::machine_seconds()?);
    let pulled = try_join_all(names.iter().map(|name| node.client().pull(name))).await;
    let (took, machine) = (started.elapsed(), processes::machine_seconds()? - machine);
    stop.store(true, Ordering::Relaxed);
    let times = lists.await.context("the thread of the lists")??;
    pulled.context("PullImage")?;
    let what = format!("{PULLS} different pulls of {SIZE} MiB at once");
    report.figure(&what, took.as_secs_f64(), "s");
    report.figure(
        &format!("{what}, processors busy"),
        machine / took.as_secs_f64(),
        "",
    );
    for (rpc, samples) in times {
        for (share, name) in [(0.5, "median"), (0.99, "p99")] {
            let value = millis(quantile(&samples, share));
            report.figure(&format!("{rpc} meanwhile, {name}"), value, "ms");
        }
    }
    for name in &names {
        node.client()
            .remove_image(name)
            .await
            .context("RemoveImage")?;
    }
    Ok(())
}

async fn calls(client: &CriClient, stop: &AtomicBool) -> Result<Times> {
    let mut times: Times = ["ListPodSandbox", "ListContainers", "ListImages"]
        .map(|rpc| (rpc, Vec::new()))
        .into();
    while !stop.load(Ordering::Relaxed) {
        for (rpc, samples) in &mut times {
            let called = Instant::now();
            match *rpc {
                "ListImages" => drop(client.list_images().await?),
                rpc => drop(client.list_length(rpc).await?),
            }
            samples.push(called.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}
