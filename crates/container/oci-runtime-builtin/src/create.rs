//! Creating a container, up to the point where only a start is missing.

pub(crate) mod prepare;
mod spawn;

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crioxide_cgroups::{
    Cgroup, CreateCgroupError, DetectLayoutError, Driver, ParseCgroupPathError,
};
use crioxide_confinement::seccomp::CompileError;
use crioxide_files::{AtomicWriteError, write_new};
use oci_spec::runtime::{LinuxNamespaceType, PosixRlimit, PosixRlimitType};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::bundle::{Bundle, BundleError};
use crate::hooks::{self, HookError};
use crate::process::{filter_agent, id_mapping};
use crate::record::{ContainerRecord, RecordError, StateDirectory, process_start};
use crate::rootfs::root_switch::RootSwitch;
use crate::setup_error::SetupError;
use crate::sync::{FromInit, SyncSocket};

pub use spawn::InitParent;

/// What to create and how.
#[derive(Debug)]
pub struct CreateRequest<'a> {
    /// Container id.
    pub id: &'a str,
    /// Directory of `config.json`.
    pub bundle: &'a Path,
    /// Directory that holds the state of all containers of this runtime.
    pub root: &'a Path,
    /// File that the first process's pid is written to.
    pub pid_file: Option<&'a Path>,
    /// Connected unix socket that the terminal is sent over, if the process has one.
    pub console_socket: Option<OwnedFd>,
    /// How the root is changed.
    pub root_switch: RootSwitch,
    /// Who makes the cgroup.
    pub cgroup_driver: Driver,
    /// Descriptors from 3 upwards that reach the process.
    pub preserved_descriptors: u32,
    /// Whether the container gets a session keyring.
    pub keyring: SessionKeyring,
    /// Whose child the first process is.
    pub init_parent: InitParent,
}

/// What becomes of the session keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKeyring {
    /// The container has its own.
    New,
    /// It shares the caller's.
    Inherit,
}

/// A created container.
#[derive(Debug)]
pub struct Created {
    /// The first process, waiting for the start.
    pub pid: Pid,
    /// What was asked for and could not be had.
    pub warnings: Vec<String>,
}

/// Why a container was not created. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The id is taken.
    #[error("container with id `{id}` already exists")]
    Exists {
        /// Container id.
        id: String,
    },
    /// The runtime's own records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file of the runtime's own.
    #[error("{action} `{}`", path.display())]
    StateFile {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The host's cgroups.
    #[error(transparent)]
    CgroupLayout(#[from] DetectLayoutError),
    /// The configured path.
    #[error(transparent)]
    CgroupPath(#[from] ParseCgroupPathError),
    /// The container's cgroup.
    #[error(transparent)]
    Cgroup(#[from] CreateCgroupError),
    /// The seccomp profile.
    #[error("compile the seccomp profile")]
    Seccomp(#[from] CompileError),
    /// A seccomp profile whose calls nobody would answer.
    #[error("seccomp profile has SCMP_ACT_NOTIFY but no listenerPath")]
    NoFilterAgent,
    /// A terminal without anybody to take it.
    #[error("process wants a terminal, but there is no console socket")]
    NoConsoleSocket,
    /// Preparing on the host's side.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A hook on the host's side.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The first process could not go on.
    #[error("{message}")]
    Init {
        /// What it said.
        message: String,
    },
    /// The first process ended without a word.
    #[error("the container's first process died while it was being prepared")]
    InitDied,
    /// A limit that cannot be set.
    #[error("set resource limit {limit} to {soft}:{hard}")]
    ResourceLimit {
        /// Which.
        limit: PosixRlimitType,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
        /// Why.
        source: io::Error,
    },
    /// The pid file.
    #[error("write the pid file")]
    PidFile(#[source] AtomicWriteError),
}

/// Creates a container whose first process then waits for its start.
///
/// To be called in a process with one thread that ends soon afterwards: it may be moved into the container's cgroup and
/// some namespaces. Descriptors 0 to 2 of the caller become the stdio of the container's process.
///
/// # Errors
/// See [`CreateError`].
pub fn create(request: CreateRequest<'_>) -> Result<Created, CreateError> {
    let bundle = Bundle::load(request.bundle)?;
    if bundle.process.terminal().unwrap_or(false) && request.console_socket.is_none() {
        return Err(CreateError::NoConsoleSocket);
    }
    let state = StateDirectory::at(request.root, request.id)?;
    let mut unfinished = Unfinished::begin(state, request.init_parent)?;
    let mut warnings = Vec::new();
    let named = (request.id, request.cgroup_driver);
    let cgroup = prepare::cgroup(named, &bundle, &mut warnings)?;
    unfinished.cgroup = Some(cgroup.clone());
    let fifo = make_fifo(&unfinished.state)?;
    let systemd_cgroup = request.cgroup_driver == Driver::Systemd;
    let cgroup_path = prepare::cgroup_path(request.id, request.cgroup_driver, &bundle);
    let (id, pid_file, parent) = (request.id, request.pid_file, request.init_parent);
    let plan = prepare::plan(request, &bundle, &cgroup, fifo)?;
    let new_user = plan.namespaces.is_new(LinuxNamespaceType::User);
    let (ours, theirs) = SyncSocket::pair()?;
    let spawned = spawn::spawn(plan, &cgroup, theirs, parent)?;
    let pid = spawned.pid;
    unfinished.init = Some(spawned);
    if new_user {
        let linux = &bundle.linux;
        let (uids, gids) = (
            linux.uid_mappings().as_deref(),
            linux.gid_mappings().as_deref(),
        );
        id_mapping::write_maps(pid, uids.unwrap_or_default(), gids.unwrap_or_default())?;
        ours.let_go()?;
    }
    follow(&ours, id, pid, &bundle, &mut warnings)?;
    set_limits(pid, bundle.process.rlimits().as_deref().unwrap_or_default())?;
    if let Some(adjustment) = bundle.process.oom_score_adj() {
        warnings.extend(set_oom_score(pid, adjustment));
    }
    let record = record(id, &bundle, pid, (cgroup_path, systemd_cgroup));
    unfinished
        .state
        .save(&record.ok_or(CreateError::InitDied)?)?;
    if let Some(path) = pid_file {
        write_pid(path, pid)?;
    }
    ours.let_go()?;
    unfinished.finish();
    Ok(Created { pid, warnings })
}

/// What is remembered of a container; `None` when its first process has ended.
pub(crate) fn record(
    id: &str,
    bundle: &Bundle,
    pid: Pid,
    (cgroup_path, systemd_cgroup): (String, bool),
) -> Option<ContainerRecord> {
    Some(ContainerRecord {
        version: ContainerRecord::VERSION,
        id: id.to_owned(),
        bundle: bundle.directory.clone(),
        rootfs: bundle.root_path.clone(),
        pid: pid.as_raw_nonzero().get(),
        start_time: process_start(pid)?,
        created: std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs()),
        cgroup_path,
        systemd_cgroup,
        hooks: bundle.spec.hooks().clone(),
        annotations: bundle.spec.annotations().clone(),
    })
}

pub(crate) fn write_pid(path: &Path, pid: Pid) -> Result<(), CreateError> {
    write_new(path, pid.as_raw_nonzero().to_string().as_bytes(), 0o644)
        .map_err(CreateError::PidFile)
}

/// Listens to the first process until it is ready, and runs the hooks on the host's side.
fn follow(
    sync: &SyncSocket,
    id: &str,
    pid: Pid,
    bundle: &Bundle,
    warnings: &mut Vec<String>,
) -> Result<(), CreateError> {
    loop {
        let Some((message, descriptors)) = sync.hear_with() else {
            return Err(CreateError::InitDied);
        };
        match message {
            FromInit::Warning(text) => warnings.push(text),
            FromInit::FilterListener => {
                let number = pid.as_raw_nonzero().get();
                let directory = &bundle.directory;
                let state = hooks::state_value(id, "creating", number, directory, &bundle.spec);
                let profile = bundle.linux.seccomp().as_ref();
                filter_agent::hand_over(profile, descriptors, pid, state)?;
            }
            FromInit::Mounted => {
                let state =
                    hooks::state_document(id, "creating", pid.as_raw_nonzero().get(), bundle);
                for (phase, list) in prepare::host_hooks(&bundle.spec) {
                    hooks::run_all(phase, &list, &state, &bundle.directory)?;
                }
                sync.let_go()?;
            }
            FromInit::Ready => return Ok(()),
            FromInit::Failed(message) => return Err(CreateError::Init { message }),
            FromInit::Spawned(_) => return Err(CreateError::InitDied),
        }
    }
}

/// Set from outside, because limits on open files or memory would already hit the preparation.
pub(crate) fn set_limits(pid: Pid, limits: &[PosixRlimit]) -> Result<(), CreateError> {
    for limit in limits {
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        let new = Rlimit {
            current: finite(limit.soft()),
            maximum: finite(limit.hard()),
        };
        rustix::process::prlimit(Some(pid), resource(limit.typ()), new).map_err(|errno| {
            CreateError::ResourceLimit {
                limit: limit.typ(),
                soft: limit.soft(),
                hard: limit.hard(),
                source: errno.into(),
            }
        })?;
    }
    Ok(())
}

fn resource(limit: PosixRlimitType) -> Resource {
    match limit {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// Returns a warning when the host does not let us; the process then keeps what it inherited.
pub(crate) fn set_oom_score(pid: Pid, adjustment: i32) -> Option<String> {
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    let error = std::fs::write(path, adjustment.to_string()).err()?;
    Some(format!(
        "cannot set the OOM score adjustment to {adjustment}: {error}"
    ))
}

fn make_fifo(state: &StateDirectory) -> Result<OwnedFd, CreateError> {
    let path = state.fifo();
    let failed = |action, errno: rustix::io::Errno| CreateError::StateFile {
        action,
        path: path.clone(),
        source: errno.into(),
    };
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
        .map_err(|errno| failed("make", errno))?;
    // Open for both directions: opening does not wait, and while it is open a start finds a reader.
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("open", errno))
}

/// What exists of a container that is not finished, to be given back if it never is.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) state: StateDirectory,
    cgroup: Option<Cgroup>,
    init: Option<spawn::Spawned>,
    parent: InitParent,
    finished: bool,
}

impl Unfinished {
    /// Claims the id by making its directory.
    pub(crate) fn begin(state: StateDirectory, parent: InitParent) -> Result<Self, CreateError> {
        let failed = |path: &Path, source| CreateError::StateFile {
            action: "make",
            path: path.to_owned(),
            source,
        };
        if let Some(root) = state.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(root)
                .map_err(|error| failed(root, error))?;
        }
        match DirBuilder::new().mode(0o700).create(&state.path) {
            Ok(()) => Ok(Self {
                state,
                cgroup: None,
                init: None,
                parent,
                finished: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CreateError::Exists { id: state.id })
            }
            Err(error) => Err(failed(&state.path, error)),
        }
    }

    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Every step runs whatever became of the others; the error that led here is the one to report.
        if let Some(init) = &self.init {
            let _ = rustix::process::pidfd_send_signal(&init.pidfd, Signal::KILL);
            crate::process::end::wait(init.pid, &init.pidfd);
            if self.parent == InitParent::Creator {
                let _ = crioxide_sys::reap::wait_for(init.pid);
            }
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.remove();
        }
        let _ = std::fs::remove_dir_all(&self.state.path);
    }
}
