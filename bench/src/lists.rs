//! Lists and statistics of a full node, while pods come and go: from the call to the last byte of the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::daemon::Node;
use crate::samples::quantile;

/// Calls of each kind.
const CALLS: usize = 300;

/// The times of one kind of call.
#[derive(Debug)]
pub(crate) struct ListTimes {
    pub(crate) what: &'static str,
    pub(crate) samples: Vec<Duration>,
}

impl std::fmt::Display for ListTimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |share| quantile(&self.samples, share).as_secs_f64() * 1e3;
        write!(
            f,
            "{:<24} {:>4} calls: median {:.2} ms, 99 % {:.2} ms",
            self.what,
            self.samples.len(),
            millis(0.5),
            millis(0.99)
        )
    }
}

/// `ended` pods that have stopped with an exited container and `running` ones, then lists while one more pod after the
/// other comes and goes.
pub(crate) async fn measure(node: &Node, ended: usize, running: usize) -> Result<Vec<ListTimes>> {
    stream::iter(0..ended)
        .map(async |number| node.ended(&format!("ended{number}")).await)
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await
        .context("pods that have ended")?;
    stream::iter(0..running)
        .map(async |number| node.up(&format!("running{number}"), &mut Vec::new()).await)
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await
        .context("pods that run")?;
    let stop = AtomicBool::new(false);
    let churn = async {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            let (pod, container) = node.up(&format!("churn{round}"), &mut Vec::new()).await?;
            node.down(&pod, &container, &mut Vec::new()).await?;
            round += 1;
        }
        anyhow::Ok(())
    };
    let lists = async {
        let times = calls(node).await;
        stop.store(true, Ordering::Relaxed);
        times
    };
    let (churned, times) = tokio::join!(churn, lists);
    churned.context("pods that come and go")?;
    times
}

async fn calls(node: &Node) -> Result<Vec<ListTimes>> {
    let kinds = [
        "ListPodSandbox",
        "ListContainers",
        "ListContainerStats",
        "ListPodSandboxStats",
    ];
    let mut times: Vec<_> = kinds
        .map(|what| ListTimes {
            what,
            samples: Vec::new(),
        })
        .into();
    for _ in 0..CALLS {
        for of in &mut times {
            let started = Instant::now();
            let length = node.client().list_length(of.what).await?;
            of.samples.push(started.elapsed());
            ensure!(length > 0, "{} is empty", of.what);
        }
    }
    Ok(times)
}
