//! Packet rules that others delete are made again.
//!
//! `nft flush ruleset`, as firewalls run it on reload, takes our tables along. The kernel tells of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crioxide_cni::Cni;
use crioxide_engine::ports::PortError;
use crioxide_netlink::nft::NftMonitor;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::blocking;

/// All of our tables begin with it.
const TABLES: &str = "crioxide_";
/// A reload deletes table after table: look when it is through.
const SETTLE: Duration = Duration::from_millis(100);

/// Makes all rules that are missing.
pub(super) async fn restore(cni: Arc<Cni>) {
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
        let lost = ready.get_inner_mut().lost_something(TABLES)?;
        ready.clear_ready();
        if lost {
            return Ok(());
        }
    }
}
