//! A connection to one monitor.

mod inbox;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crioxide_monitor_protocol::{
    ClientFrame, ContainerReport, CreateContainer, ExitReport, KeepStdio, Reply, Request,
    RestoreContainer, VERSION, encode,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::MonitorError;
use crate::connection::PacketSocket;
pub(crate) use inbox::Inbox;

/// Requests that a healthy monitor answers at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a create may take beyond the runtime's own time: the clean-up after a timeout.
const CREATE_MARGIN: Duration = Duration::from_secs(20);

/// Events that may wait for their reader. When it is full the monitor is no longer read from, and after some time closes
/// the connection.
const EVENTS: usize = 1024;

/// Something happened under a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorEvent {
    /// A container ended; its log is complete.
    Exited {
        /// Container id.
        id: String,
        /// How.
        exit: ExitReport,
    },
    /// The kernel killed something in a container for lack of memory.
    Oom {
        /// Container id.
        id: String,
    },
    /// Nobody will type into a shim's container any more.
    StdinClosed {
        /// Container id.
        id: String,
    },
    /// The connection ended. Connect again: if that fails, the monitor is dead. Always the last event.
    Gone,
}

/// A new connection.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub monitor: Monitor,
    /// What the monitor knows. A container that ended before is here, not among the events.
    pub containers: Vec<ContainerReport>,
    /// What happens from now on.
    pub events: mpsc::Receiver<MonitorEvent>,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Host pid of its first process.
    pub pid: i32,
    /// What the host could not do and the container runs without.
    pub warnings: Vec<String>,
}

/// A connection to a monitor. Clones share it.
#[derive(Debug, Clone)]
pub struct Monitor {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    socket: Arc<PacketSocket>,
    pub(crate) inbox: Arc<Inbox>,
    reader: JoinHandle<()>,
    pid: std::sync::atomic::AtomicI32,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Monitor {
    /// Connects to the monitor listening at `path`.
    ///
    /// # Errors
    /// Nobody listens, or the versions do not fit.
    pub async fn connect(path: &Path) -> Result<Connected, MonitorError> {
        let mut connected = Self::connect_to_new(path).await?;
        connected.containers = connected.monitor.list().await?;
        Ok(connected)
    }

    /// As [`Self::connect`], to a monitor that cannot have containers yet.
    pub(crate) async fn connect_to_new(path: &Path) -> Result<Connected, MonitorError> {
        let socket = PacketSocket::connect(path).map_err(|source| MonitorError::Connect {
            path: path.into(),
            source,
        })?;
        let socket = Arc::new(socket);
        let (sender, events) = mpsc::channel(EVENTS);
        let inbox = Arc::new(Inbox::default());
        let reader = tokio::spawn(inbox::read(Arc::clone(&socket), Arc::clone(&inbox), sender));
        let shared = Shared {
            path: path.into(),
            socket,
            inbox,
            reader,
            pid: 0.into(),
        };
        let monitor = Self {
            shared: Arc::new(shared),
        };
        match monitor
            .ask("hello", Request::Hello { version: VERSION }, &[], PATIENCE)
            .await?
        {
            Reply::Hello { pid, .. } => monitor
                .shared
                .pid
                .store(pid, std::sync::atomic::Ordering::Relaxed),
            _ => return Err(MonitorError::Unexpected { request: "hello" }),
        }
        Ok(Connected {
            monitor,
            containers: Vec::new(),
            events,
        })
    }

    /// Process id of the monitor.
    pub fn pid(&self) -> i32 {
        self.shared.pid.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether both are this one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The socket it listens on.
    pub fn socket(&self) -> &Path {
        &self.shared.path
    }

    /// All containers it knows, also ended ones not yet removed.
    ///
    /// # Errors
    /// The monitor is gone.
    pub async fn list(&self) -> Result<Vec<ContainerReport>, MonitorError> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(start) = from {
            match self
                .ask("list", Request::List { from: start }, &[], PATIENCE)
                .await?
            {
                Reply::Containers { containers, next } => {
                    all.extend(containers);
                    from = next;
                }
                _ => return Err(MonitorError::Unexpected { request: "list" }),
            }
        }
        Ok(all)
    }

    /// Makes a container up to its start. On failure nothing is left of it.
    ///
    /// # Errors
    /// The runtime's message is in the failure, whose kind tells a timeout.
    pub async fn create(&self, request: CreateContainer) -> Result<Created, MonitorError> {
        let timeout = Duration::from_millis(request.timeout_ms) + CREATE_MARGIN;
        let request = Request::CreateContainer(Box::new(request));
        match self.ask("create", request, &[], timeout).await? {
            Reply::Created { pid, warnings } => Ok(Created { pid, warnings }),
            _ => Err(MonitorError::Unexpected { request: "create" }),
        }
    }

    /// Makes a container of a checkpoint. It runs; on failure nothing is left of it.
    ///
    /// # Errors
    /// As for [`Monitor::create`]; and a monitor of an older version, which cannot do it.
    pub async fn restore(&self, request: RestoreContainer) -> Result<Created, MonitorError> {
        let timeout = Duration::from_millis(request.container.timeout_ms) + CREATE_MARGIN;
        let request = Request::RestoreContainer(Box::new(request));
        match self.ask("restore", request, &[], timeout).await? {
            Reply::Created { pid, warnings } => Ok(Created { pid, warnings }),
            _ => Err(MonitorError::Unexpected { request: "restore" }),
        }
    }

    /// Keeps the input and output of a container that a shim is about to make.
    ///
    /// # Errors
    /// The log or the FIFOs cannot be made; and a monitor of an older version, which cannot do it.
    pub async fn keep_stdio(&self, request: KeepStdio) -> Result<(), MonitorError> {
        self.order("keep_stdio", Request::KeepStdio(Box::new(request)))
            .await
    }

    /// The shim has made the container.
    ///
    /// # Errors
    /// Unknown container.
    pub async fn made(&self, id: &str, pid: i32) -> Result<(), MonitorError> {
        self.order("made", Request::Made { id: id.into(), pid })
            .await
    }

    /// The shim says that the container has ended, or has not made it.
    ///
    /// # Errors
    /// Unknown container.
    pub async fn ended(
        &self,
        id: &str,
        exit_code: i32,
        finished_at_ns: i64,
    ) -> Result<(), MonitorError> {
        let request = Request::Ended {
            id: id.into(),
            exit_code,
            finished_at_ns,
        };
        self.order("ended", request).await
    }

    /// Opens the container's log path again, after the old file was renamed.
    ///
    /// # Errors
    /// Unknown container, or the file cannot be made.
    pub async fn reopen_log(&self, id: &str) -> Result<(), MonitorError> {
        self.order("reopen_log", Request::ReopenLog { id: id.into() })
            .await
    }

    /// Changes the size of the container's terminal.
    ///
    /// # Errors
    /// Unknown container, or it has no terminal.
    pub async fn resize(&self, id: &str, width: u16, height: u16) -> Result<(), MonitorError> {
        self.order(
            "resize",
            Request::Resize {
                id: id.into(),
                width,
                height,
            },
        )
        .await
    }

    /// Ends the container's stdin.
    ///
    /// # Errors
    /// Unknown container.
    pub async fn close_stdin(&self, id: &str) -> Result<(), MonitorError> {
        self.order("close_stdin", Request::CloseStdin { id: id.into() })
            .await
    }

    /// Forgets an ended container.
    ///
    /// # Errors
    /// Unknown container, or it still runs.
    pub async fn remove(&self, id: &str) -> Result<(), MonitorError> {
        self.order("remove", Request::Remove { id: id.into() })
            .await
    }

    /// Ends the monitor.
    ///
    /// # Errors
    /// Something still runs under it.
    pub async fn shutdown(&self) -> Result<(), MonitorError> {
        self.order("shutdown", Request::Shutdown).await
    }

    pub(crate) async fn order(
        &self,
        name: &'static str,
        request: Request,
    ) -> Result<(), MonitorError> {
        match self.ask(name, request, &[], PATIENCE).await? {
            Reply::Done => Ok(()),
            _ => Err(MonitorError::Unexpected { request: name }),
        }
    }

    pub(crate) async fn ask(
        &self,
        name: &'static str,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<Reply, MonitorError> {
        let gone = |sent| MonitorError::Gone {
            peer: "monitor",
            request: name,
            sent,
        };
        let waiting = self.shared.inbox.expect_reply();
        let waiting = waiting.ok_or_else(|| gone(false))?;
        let prepare = |source| MonitorError::Prepare {
            step: "encode the message",
            request: name,
            source,
        };
        let message = encode(&ClientFrame {
            seq: waiting.seq(),
            request,
        })
        .map_err(|error| prepare(std::io::Error::other(error)))?;
        let answered = async {
            self.shared
                .socket
                .send(&message, descriptors)
                .await
                .map_err(|_| gone(false))?;
            waiting.reply().await.ok_or_else(|| gone(true))
        };
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(Reply::Failed(failure))) => Err(MonitorError::Failed { failure }),
            Ok(reply) => reply,
            Err(_) => Err(MonitorError::Silent {
                peer: "monitor",
                request: name,
                timeout,
            }),
        }
    }
}
