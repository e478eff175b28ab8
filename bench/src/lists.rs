//! Lists and statistics of a full node, while pods come and go: from the call to the last byte of the answer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use crioxide_sys::scheduling::{SchedulingAttributes, set_scheduling};
use crioxide_test_support::client::CriClient;
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
        let socket = node.socket();
        let times = tokio::task::spawn_blocking(|| calls_apart(socket, calls)).await;
        stop.store(true, Ordering::Relaxed);
        times?
    };
    let (churned, times) = tokio::join!(churn, lists);
    churned.context("pods that come and go")?;
    times
}

/// Calls on a connection and a thread of their own. The thread goes before all others where that is allowed: the answers
/// are measured, not how long their reader waits for a processor.
pub(crate) fn calls_apart<T: Send + 'static>(
    socket: PathBuf,
    calls: impl AsyncFnOnce(CriClient) -> Result<T> + Send + 'static,
) -> Result<T> {
    let thread = std::thread::spawn(move || {
        let first_in_first_out = SchedulingAttributes {
            policy: 1,
            priority: 1,
            ..SchedulingAttributes::default()
        };
        if let Err(error) = set_scheduling(first_in_first_out) {
            eprintln!("note: the reader of lists waits for its turn like everything else: {error}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the async runtime of the lists")?;
        runtime.block_on(async { calls(CriClient::new(&socket)).await })
    });
    thread
        .join()
        .map_err(|_| anyhow!("the thread of the lists panicked"))?
}

async fn calls(client: CriClient) -> Result<Vec<ListTimes>> {
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
            let length = client.list_length(of.what).await?;
            of.samples.push(started.elapsed());
            ensure!(length > 0, "{} is empty", of.what);
        }
    }
    Ok(times)
}
