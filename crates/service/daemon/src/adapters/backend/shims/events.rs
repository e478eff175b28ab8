//! What shims tell by themselves: that memory ran out, which is marked in the bundle for the end of the container.

use std::{
    path::{Path, PathBuf},
    sync::Weak,
};

use crioxide_engine::ports::PortResult;
use crioxide_names::ContainerId;
use tokio::{net::UnixListener, sync::mpsc};

use super::Inner;

/// Where shims tell events, beside the directory of exit files. It stays the same over restarts: shims are told it once.
pub(super) fn socket(exits_dir: &Path) -> PathBuf {
    exits_dir.with_file_name("shim-events.sock")
}

/// Listens there.
pub(super) fn start(inner: Weak<Inner>, socket: &Path) -> PortResult<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .map_err(|error| format!("cannot listen on {}: {error}", socket.display()))?;
    let (sender, told) = mpsc::unbounded_channel();
    tokio::spawn(crioxide_shim_client::events::serve(listener, sender));
    tokio::spawn(mark(inner, told));
    Ok(())
}

async fn mark(inner: Weak<Inner>, mut told: mpsc::UnboundedReceiver<String>) {
    while let Some(id) = told.recv().await {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let Some(task) = ContainerId::parse(&id)
            .ok()
            .and_then(|id| inner.tasks.of(&id))
        else {
            continue;
        };
        tracing::info!("OOM in container {id}");
        // kata's shim leaves the same mark for CRI-O.
        if let Err(error) = std::fs::write(task.dirs.run.join("oom"), "") {
            tracing::warn!("The lack of memory in container {id} is not recorded: {error}");
        }
    }
}
