//! Packet rules that others delete are made again.
//!
//! `nft flush ruleset`, as firewalls run it on reload, takes our tables along, as `iptables -F` does with our chains. The
//! kernel tells of it, but for the tables of iptables' legacy variant, which are looked at now and then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crioxide_cni::Cni;
use crioxide_cni_plugins::{Builtin, CANARY_CHAIN};
use crioxide_engine::ports::PortError;
use crioxide_netlink::nft::NftMonitor;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::blocking;

/// All of our tables begin with it.
const TABLES: &str = "crioxide_";
/// A reload deletes table after table: look when it is through.
const SETTLE: Duration = Duration::from_millis(100);

/// How often tables are looked at of which the kernel tells nothing; a kubelet does it as often.
const POLL: Duration = Duration::from_secs(30);

/// Looks after rules of which the kernel tells nothing, once there are any.
#[derive(Debug, Clone)]
pub(super) struct Polls {
    cni: Arc<Cni>,
    plugins: Builtin,
    begun: Arc<AtomicBool>,
}

impl Polls {
    pub(super) fn new(cni: Arc<Cni>, plugins: Builtin) -> Self {
        Self {
            cni,
            plugins,
            begun: Arc::default(),
        }
    }

    /// Must be called inside the tokio runtime.
    pub(super) fn begin_if_needed(&self) {
        if self.plugins.has_unwatched_rules() && !self.begun.swap(true, Ordering::Relaxed) {
            tracing::info!("Packet rules of iptables' legacy variant are looked at every {POLL:?}");
            tokio::spawn(self.clone().run());
        }
    }

    /// Makes all rules that are missing, in the background. Must be called inside the tokio runtime.
    pub(super) fn restore(&self) {
        let polls = self.clone();
        tokio::spawn(async move {
            restore(polls.cni.clone()).await;
            polls.begin_if_needed();
        });
    }

    async fn run(self) {
        loop {
            tokio::time::sleep(POLL).await;
            let plugins = self.plugins.clone();
            let lost = blocking::run(move || {
                Ok::<_, PortError>(plugins.lost_unwatched_rules(Instant::now() + POLL)?)
            });
            match lost.await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(
                        "Packet rules were deleted by somebody else: looking after them"
                    );
                    restore(self.cni.clone()).await;
                }
                Err(error) => tracing::warn!(
                    "Packet rules could not be looked at: {}",
                    crioxide_engine::chain(error.as_ref())
                ),
            }
        }
    }
}

/// Makes all rules that are missing.
async fn restore(cni: Arc<Cni>) {
    let failures = blocking::run(move || Ok::<_, PortError>(cni.restore()?)).await;
    match failures {
        Ok(failures) => {
            for (attachment, error) in failures {
                tracing::warn!(
                    "Failed to restore packet rules of pod {}: {}",
                    attachment.container_id,
                    crioxide_engine::chain(&error)
                );
            }
        }
        Err(error) => tracing::warn!(
            "Failed to restore packet rules: {}",
            crioxide_engine::chain(error.as_ref())
        ),
    }
}

/// Watches for deleted rules for as long as the daemon runs.
pub(super) async fn watch(cni: Arc<Cni>) {
    let mut monitor = match open() {
        Ok(monitor) => monitor,
        Err(error) => {
            tracing::info!(
                "Packet rules are not watched: {}",
                crioxide_engine::chain(error.as_ref())
            );
            return;
        }
    };
    loop {
        match wait_for_loss(&mut monitor).await {
            Ok(()) => {
                tokio::time::sleep(SETTLE).await;
                tracing::info!("Packet rules were deleted by somebody else: looking after them");
                restore(cni.clone()).await;
            }
            Err(error) => {
                tracing::warn!("Packet rules are no longer watched: {error}");
                return;
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the monitor keeps one descriptor for as long as it lives"
)]
fn open() -> Result<AsyncFd<NftMonitor>, PortError> {
    Ok(AsyncFd::with_interest(
        NftMonitor::open()?,
        Interest::READABLE,
    )?)
}

async fn wait_for_loss(monitor: &mut AsyncFd<NftMonitor>) -> io::Result<()> {
    loop {
        let mut ready = monitor.readable_mut().await?;
        let lost = ready.get_inner_mut().lost_something(TABLES, CANARY_CHAIN)?;
        ready.clear_ready();
        if lost {
            return Ok(());
        }
    }
}
