//! systemd's watchdog: as long as calls over the real socket are answered, systemd hears so twice per interval.

use std::{path::PathBuf, time::Duration};

use crioxide_cri_api::v1::{
    StatusRequest, StatusResponse, runtime_service_client::RuntimeServiceClient,
};
use crioxide_engine::ports::{PortError, PortResult};
use tonic::transport::Endpoint;

use crate::StartError;

/// A shorter interval would be missed by a machine under load.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Pauses before the second and third attempt to reach systemd.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Starts the watchdog if systemd asked for one (`WATCHDOG_USEC`).
pub(crate) fn start(socket: PathBuf) -> Result<(), StartError> {
    let mut microseconds = 0;
    if !sd_notify::watchdog_enabled(false, &mut microseconds) {
        return Ok(());
    }
    let interval = Duration::from_micros(microseconds);
    if interval <= INTERVAL_MIN {
        let reason =
            format!("WATCHDOG_USEC is {microseconds}: the interval must be longer than one second");
        return Err(StartError::part("start the watchdog")(PortError::from(
            reason,
        )));
    }
    tokio::spawn(run(socket, interval / 2));
    Ok(())
}

async fn run(socket: PathBuf, pause: Duration) {
    let mut network_was_ready = false;
    loop {
        tokio::time::sleep(pause).await;
        match tokio::time::timeout(pause, status(&socket)).await {
            Ok(Ok(status)) => {
                let ready = network_is_ready(&status);
                if network_was_ready && !ready {
                    tracing::warn!("Health check: the pod network is no longer ready");
                    continue;
                }
                network_was_ready |= ready;
                notify().await;
            }
            Ok(Err(error)) => tracing::error!(
                "Health check failed: {}",
                crioxide_engine::chain(error.as_ref())
            ),
            Err(_) => tracing::error!("Health check got no answer in {} s", pause.as_secs()),
        }
    }
}

async fn status(socket: &std::path::Path) -> PortResult<StatusResponse> {
    let channel = Endpoint::try_from(format!("unix://{}", socket.display()))?
        .connect()
        .await?;
    Ok(RuntimeServiceClient::new(channel)
        .status(StatusRequest { verbose: false })
        .await?
        .into_inner())
}

fn network_is_ready(status: &StatusResponse) -> bool {
    let conditions = status.status.iter().flat_map(|status| &status.conditions);
    conditions
        .filter(|condition| condition.r#type == "NetworkReady")
        .all(|condition| condition.status)
}

async fn notify() {
    let mut pauses = RETRIES.iter();
    while let Err(error) = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]) {
        match pauses.next() {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => {
                tracing::error!("Failed to reach systemd's watchdog: {error}");
                return;
            }
        }
    }
}
