//! Starting a monitor, and all it holds.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crioxide_monitor_protocol::MonitorConfig;
use crioxide_sys::reap::Ending;
use crioxide_sys::signals::SignalDescriptor;
use rustix::net::SocketType;
use rustix::process::Signal;

use crate::clients::Clients;
use crate::container::{Container, READ_SIZE};
use crate::event_loop;
use crate::runtime::child::{ChildSettings, RuntimeChild};
use crate::runtime::exec::Exec;
use crate::socket;
use crate::streams::stdio;
use crate::watcher::{ContainerKey, Source, Watcher};

/// Why a monitor did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartMonitorError {
    /// Its socket cannot be made.
    #[error("cannot listen on the monitor socket `{}`", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be set up.
    #[error("cannot set up the monitor process: {step}")]
    SetUp {
        /// What was tried.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Everything a monitor holds.
pub(crate) struct Monitor {
    pub(crate) config: MonitorConfig,
    pub(crate) watcher: Watcher,
    pub(crate) signals: SignalDescriptor,
    pub(crate) listener: OwnedFd,
    pub(crate) clients: Clients,
    pub(crate) containers: BTreeMap<ContainerKey, Container>,
    pub(crate) next_key: ContainerKey,
    pub(crate) children: Vec<RuntimeChild>,
    pub(crate) execs: Vec<Exec>,
    /// Processes that ended before we knew what they were, while a runtime was at work.
    pub(crate) early_endings: Vec<(i32, Ending)>,
    /// Out-of-memory kills that are known to be some container's.
    pub(crate) kills_counted: u64,
    pub(crate) child_settings: ChildSettings,
    /// What is read, output or a packet, goes through here.
    pub(crate) buffer: Box<[u8]>,
    pub(crate) finished: bool,
}

/// Turns the calling process, which must have one thread, into a monitor; returns when it is over.
///
/// `ready` is called once the socket listens.
///
/// # Errors
/// It did not start.
pub fn run_monitor(config: MonitorConfig, ready: impl FnOnce()) -> Result<(), StartMonitorError> {
    let mut monitor = Monitor::start(config)?;
    ready();
    event_loop::run(&mut monitor);
    let _ = std::fs::remove_file(&monitor.config.socket);
    Ok(())
}

impl Monitor {
    fn start(config: MonitorConfig) -> Result<Self, StartMonitorError> {
        let set_up = |step| move |source: io::Error| StartMonitorError::SetUp { step, source };
        // Already the leader of a session when started by hand.
        let _ = rustix::process::setsid();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| set_up("become the reaper of orphans")(error.into()))?;
        let _ = rustix::thread::set_name(c"crioxide-mon");
        let oom_score_adj = protect_from_oom();
        let null = stdio::null().map_err(set_up("open /dev/null"))?;
        for number in 0..3 {
            crioxide_sys::descriptors::place_at(&null, number)
                .map_err(set_up("detach the standard descriptors"))?;
        }
        // conmon would pass TERM, INT and HUP on; containers are stopped by the daemon only, and a system that shuts
        // down stops them by their own scopes.
        let ignored = [
            Signal::TERM,
            Signal::INT,
            Signal::HUP,
            Signal::PIPE,
            Signal::QUIT,
            Signal::USR1,
            Signal::USR2,
        ];
        let mut blocked = vec![Signal::CHILD];
        blocked.extend(ignored);
        let signals = SignalDescriptor::block_and_open(&blocked)
            .map_err(set_up("open a signal descriptor"))?;
        let mut watcher = Watcher::new().map_err(set_up("open a poll set"))?;
        let listen = |source| StartMonitorError::Listen {
            path: config.socket.clone(),
            source,
        };
        let listener =
            socket::listen_at(&config.socket, SocketType::SEQPACKET, 16).map_err(listen)?;
        watcher
            .add(&listener, Source::Listener)
            .map_err(set_up("watch the socket"))?;
        watcher
            .add(&signals, Source::Signals)
            .map_err(set_up("watch for signals"))?;
        Ok(Self {
            config,
            watcher,
            signals,
            listener,
            clients: Clients::default(),
            containers: BTreeMap::new(),
            next_key: 0,
            children: Vec::new(),
            execs: Vec::new(),
            early_endings: Vec::new(),
            kills_counted: 0,
            child_settings: ChildSettings { oom_score_adj },
            // Zeroed by the kernel: what is never read into takes no memory.
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            finished: false,
        })
    }

    /// The container of this id.
    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Container> {
        self.containers
            .values_mut()
            .find(|container| container.id == id)
    }

    /// Whether anything still runs under the monitor.
    pub(crate) fn has_living(&self) -> bool {
        !self.children.is_empty() || self.containers.values().any(Container::is_live)
    }
}

/// The kernel shall kill the monitor last. Returns the value that children go back to, if it was changed.
fn protect_from_oom() -> Option<i32> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(FILE).ok()?.trim().parse().ok()?;
    // Not permitted without CAP_SYS_RESOURCE: then it is as killable as it was.
    std::fs::write(FILE, "-1000").ok()?;
    Some(before)
}
