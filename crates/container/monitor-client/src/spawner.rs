//! The spawner process and its control socket.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crioxide_monitor_protocol::{
    MonitorConfig, Program, SpawnerReply, SpawnerRequest, decode, encode,
};
use crioxide_sys::messages::packet_pair;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::connection::PacketSocket;
use crate::{Connected, Monitor, MonitorError};

/// A monitor listens within a millisecond; with the systemd driver its scope takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

type Waiting = Mutex<Waiters>;

#[derive(Default)]
struct Waiters {
    next: u64,
    open: HashMap<u64, oneshot::Sender<SpawnerReply>>,
    gone: bool,
}

/// The running spawner. Dropping it ends the process; monitors live on.
#[derive(Debug)]
pub struct Spawner {
    socket: Arc<PacketSocket>,
    waiting: Arc<Waiting>,
    reader: JoinHandle<()>,
    child: Mutex<Child>,
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiters")
            .field("open", &self.open.len())
            .field("gone", &self.gone)
            .finish()
    }
}

impl Spawner {
    /// Runs `program` with `args`; it has to take its standard input as the control socket
    /// (`crioxide_monitor::spawner::run`).
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(program: &Path, args: &[&OsStr]) -> Result<Self, MonitorError> {
        let fail = |source| MonitorError::StartSpawner {
            path: program.into(),
            source,
        };
        let (ours, theirs) = packet_pair().map_err(fail)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()
            .map_err(fail)?;
        let socket = Arc::new(PacketSocket::new(ours).map_err(fail)?);
        let waiting = Arc::new(Waiting::default());
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&waiting)));
        Ok(Self {
            socket,
            waiting,
            reader,
            child: Mutex::new(child),
        })
    }

    /// Process id of the spawner.
    pub fn pid(&self) -> u32 {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id()
    }

    /// Starts a monitor and connects to it.
    ///
    /// # Errors
    /// There is no monitor then.
    pub async fn spawn_monitor(&self, config: MonitorConfig) -> Result<Connected, MonitorError> {
        let path = config.socket.clone();
        let make = |seq| SpawnerRequest::Spawn { seq, config };
        match self.ask("spawn", make, &[], PATIENCE).await? {
            SpawnerReply::Spawned { .. } => Monitor::connect_to_new(&path).await,
            SpawnerReply::Failed { failure, .. } => Err(MonitorError::Failed { failure }),
            SpawnerReply::Ran { .. } => Err(MonitorError::Unexpected { request: "spawn" }),
        }
    }

    /// Runs a program to its end, or for `patience`, and returns its exit code. `descriptors` become its 3, 4 and so
    /// on, or also its standard ones.
    ///
    /// # Errors
    /// It cannot be run, or did not end in time and was killed with its process group.
    pub async fn run(
        &self,
        program: Program,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<i32, MonitorError> {
        let make = |seq| SpawnerRequest::Run { seq, program };
        match self.ask("run", make, descriptors, patience).await? {
            SpawnerReply::Ran { exit_code, .. } => Ok(exit_code),
            SpawnerReply::Failed { failure, .. } => Err(MonitorError::Failed { failure }),
            SpawnerReply::Spawned { .. } => Err(MonitorError::Unexpected { request: "run" }),
        }
    }

    async fn ask(
        &self,
        request: &'static str,
        make: impl FnOnce(u64) -> SpawnerRequest,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<SpawnerReply, MonitorError> {
        let gone = |sent| MonitorError::Gone {
            peer: "spawner",
            request,
            sent,
        };
        let (answer, waiting) = oneshot::channel();
        let seq = {
            let mut waiters = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiters.gone {
                return Err(gone(false));
            }
            waiters.next += 1;
            let seq = waiters.next;
            waiters.open.insert(seq, answer);
            seq
        };
        // Also when the caller gives up.
        let _forget = Forget(&self.waiting, seq);
        let prepare = |source| MonitorError::Prepare {
            step: "send the message",
            request,
            source,
        };
        let message = encode(&make(seq)).map_err(|error| prepare(std::io::Error::other(error)))?;
        self.socket
            .send(&message, descriptors)
            .await
            .map_err(prepare)?;
        match tokio::time::timeout(patience, waiting).await {
            Ok(answered) => answered.map_err(|_| gone(true)),
            Err(_) => {
                // Of a monitor that does not come up nothing is known that could be ended.
                if let Ok(message) = encode(&SpawnerRequest::Kill { seq }) {
                    let _ = self.socket.send(&message, &[]).await;
                }
                Err(MonitorError::Silent {
                    peer: "spawner",
                    request,
                    timeout: patience,
                })
            }
        }
    }
}

/// Forgets a request when it is over.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.open.remove(&self.1);
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.reader.abort();
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It has no state to lose, and a killed child is reaped at once.
        let _ = child.kill();
        let _ = child.wait();
    }
}

async fn read(socket: Arc<PacketSocket>, waiting: Arc<Waiting>) {
    let mut buffer = Vec::new();
    while let Ok(Some(packet)) = socket.receive(&mut buffer).await {
        let Ok(reply) = decode::<SpawnerReply>(&buffer[..packet.length]) else {
            continue;
        };
        let (SpawnerReply::Spawned { seq, .. }
        | SpawnerReply::Ran { seq, .. }
        | SpawnerReply::Failed { seq, .. }) = &reply;
        let waiter = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .remove(seq);
        if let Some(waiter) = waiter {
            let _ = waiter.send(reply);
        }
    }
    let mut waiters = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiters.gone = true;
    waiters.open.clear();
}
