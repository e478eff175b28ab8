//! One shim: how it is reached, and the process that it is.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crioxide_engine::ports::{PortResult, ProcessId};
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited, read_to_string_limited};
use crioxide_shim_client::{Address, Bootstrap, Shim, ShimError, Version};

use super::{
    super::{inspect, process_id},
    NAMESPACE, SIGKILL,
};

/// File in a bundle with what its shim answered at its start; containerd's name for it.
const BOOTSTRAP: &str = "bootstrap.json";
/// The same by shims of before version 3, who write it themselves.
const ADDRESS: &str = "address";
/// File in a bundle with the process that its shim is: number and start time.
const PROCESS: &str = "shim-process";
/// Most of such a file that is read, bytes.
const LONGEST: u64 = 4096;

const NOTE: AtomicOptions = AtomicOptions {
    mode: 0o600,
    sync: Sync::None,
};

/// How long a shim is waited for that was told to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A shim.
#[derive(Debug)]
pub(super) struct Link {
    bootstrap: Bootstrap,
    address: Address,
    version: Version,
    shim: tokio::sync::Mutex<Option<Arc<Shim>>>,
    process: OnceLock<ProcessId>,
}

impl Link {
    pub(super) fn new(bootstrap: Bootstrap) -> PortResult<Self> {
        let address = bootstrap.address()?;
        let version = bootstrap.version().ok_or("a shim of an unknown version")?;
        Ok(Self {
            bootstrap,
            address,
            version,
            shim: tokio::sync::Mutex::default(),
            process: OnceLock::new(),
        })
    }

    /// What the bundle says of its shim; `None` when no shim was started for it.
    pub(super) fn read(bundle: &Path) -> PortResult<Option<Bootstrap>> {
        for name in [BOOTSTRAP, ADDRESS] {
            match read_limited(bundle.join(name), LONGEST) {
                Ok(text) => return Ok(Some(Bootstrap::parse(&text)?)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Writes it down for the next daemon.
    pub(super) fn save(&self, bundle: &Path) -> PortResult<()> {
        let text = serde_json::to_vec(&self.bootstrap)?;
        Ok(atomic_write(bundle.join(BOOTSTRAP), &text, NOTE)?)
    }

    /// A connection to it: the one there is, or a new one after it has ended.
    pub(super) async fn shim(&self) -> Result<Arc<Shim>, ShimError> {
        let mut current = self.shim.lock().await;
        if let Some(shim) = &*current
            && !shim.has_ended()
        {
            return Ok(shim.clone());
        }
        let connected = Shim::connect(&self.address, self.version, NAMESPACE).await;
        let shim = Arc::new(connected?);
        *current = Some(shim.clone());
        Ok(shim)
    }

    /// Asks the shim for its process, to be able to end it when it hangs, and writes that down for the next daemon.
    pub(super) async fn note_process(&self, id: &str, bundle: &Path) -> PortResult<()> {
        if self.process.get().is_none() {
            let pid = self.shim().await?.pid(id).await?;
            let process = process_id(pid);
            if pid <= 1 || process.start_time.is_empty() {
                return Ok(());
            }
            let _ = self.process.set(process);
        }
        let Some(process) = self.process.get() else {
            return Ok(());
        };
        let text = format!("{} {}", process.pid, process.start_time);
        Ok(atomic_write(bundle.join(PROCESS), text.as_bytes(), NOTE)?)
    }

    /// Reads what a former daemon wrote down of the process.
    pub(super) fn recall_process(&self, bundle: &Path) {
        let Ok(text) = read_to_string_limited(bundle.join(PROCESS), LONGEST) else {
            return;
        };
        if let Some((pid, start_time)) = text.split_once(' ')
            && let Ok(pid) = pid.parse()
        {
            let start_time = start_time.to_owned();
            let _ = self.process.set(ProcessId { pid, start_time });
        }
    }

    /// Ends a shim that does not answer. `false` when it is not known which process it is.
    pub(super) async fn kill(&self) -> bool {
        let Some(process) = self.process.get() else {
            return false;
        };
        // Not being there any more is as good.
        let _ = inspect::signal(process, SIGKILL);
        let _ = tokio::time::timeout(FAREWELL, inspect::ended(process)).await;
        true
    }

    /// Waits for the end of a shim that has nothing left to serve.
    pub(super) async fn farewell(&self) {
        let ended = async {
            if let Some(shim) = &*self.shim.lock().await {
                shim.ended().await;
            }
            if let Some(process) = self.process.get() {
                let _ = inspect::ended(process).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, ended).await;
    }
}
