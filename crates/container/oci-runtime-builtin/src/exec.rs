//! Running a further process inside a container.
//!
//! Nothing of the container is trusted on the way in: the namespaces are those of its first process, entered through a
//! pidfd that is checked against the recorded start time; the joining process cannot be looked into by the
//! container until its own program runs; and no file of the container is executed before that.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crioxide_cgroups::Cgroup;
use crioxide_confinement::seccomp::{self, CompileError, Filter};
use crioxide_files::{AtomicWriteError, InRoot, write_new};
use crioxide_oci_runtime::ContainerStatus;
use crioxide_sys::clone::{CloneRequest, Cloned};
use crioxide_sys::fork::exit_now;
use oci_spec::runtime::{Process, Spec};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::bundle::{BundleError, check_process, read_spec};
use crate::create::{CreateError, InitParent, set_limits, set_oom_score};
use crate::hooks;
use crate::init::become_namespace_root;
use crate::process::console::Console;
use crate::process::setup::{ProcessSetup, close_others, needs_private_proc};
use crate::process::{affinity, filter_agent};
use crate::record::{ContainerRecord, RecordError, StateDirectory};
use crate::rootfs::private_proc::PrivateProc;
use crate::setup_error::{SetupError, chain, step};
use crate::sync::{FromInit, SyncSocket};

/// What to run, and where.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// Container id.
    pub id: &'a str,
    /// Directory that holds the state of all containers of this runtime.
    pub root: &'a Path,
    /// The process, complete: nothing is taken from the container's configuration but its seccomp profile.
    pub process: &'a Process,
    /// File that the process's pid is written to.
    pub pid_file: Option<&'a Path>,
    /// Connected unix socket that the terminal is sent over, if the process has one.
    pub console_socket: Option<OwnedFd>,
    /// Descriptors from 3 upwards that reach the process.
    pub preserved_descriptors: u32,
    /// Whose child the process is.
    pub parent: InitParent,
}

/// A process that runs in the container.
#[derive(Debug)]
pub struct Executed {
    /// Its pid, as the host sees it.
    pub pid: Pid,
    /// What was asked for and could not be had.
    pub warnings: Vec<String>,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container's record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The container is in no state for it.
    #[error("cannot exec in container `{id}` while it is {status}")]
    WrongState {
        /// Container id.
        id: String,
        /// What it is doing.
        status: ContainerStatus,
    },
    /// The process or the container's configuration.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The container's seccomp profile.
    #[error("compile the seccomp profile")]
    Seccomp(#[from] CompileError),
    /// A terminal without anybody to take it.
    #[error("process wants a terminal, but there is no console socket")]
    NoConsoleSocket,
    /// A step on the host's side.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A resource limit.
    #[error(transparent)]
    Limit(CreateError),
    /// A step inside the container.
    #[error("{message}")]
    Process {
        /// What it said.
        message: String,
    },
    /// The process ended without a word.
    #[error("the process died while it was being prepared")]
    Died,
    /// The pid file.
    #[error("write the pid file")]
    PidFile(#[source] AtomicWriteError),
}

/// Everything the new process needs.
struct ExecPlan<'a> {
    process: &'a Process,
    filter: Option<Filter>,
    cgroup_to_join: Option<Cgroup>,
    init: OwnedFd,
    namespaces: ThreadNameSpaceType,
    console_socket: Option<OwnedFd>,
    preserved: u32,
}

/// Runs a process in a container; it runs when this returns.
///
/// To be called in a process with one thread that ends soon afterwards, whose descriptors 0 to 2 become the stdio of the
/// new process.
///
/// # Errors
/// See [`ExecError`]; nothing runs then.
pub fn exec(request: ExecRequest<'_>) -> Result<Executed, ExecError> {
    check_process(request.process)?;
    if request.process.terminal().unwrap_or(false) && request.console_socket.is_none() {
        return Err(ExecError::NoConsoleSocket);
    }
    let directory = StateDirectory::at(request.root, request.id)?;
    let record = directory.load()?;
    let (init_pid, init) = open_init(&directory, &record)?;
    let spec = read_spec(&record.bundle)?;
    let profile = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let cgroup = record.cgroup();
    let target = match &cgroup {
        Some(cgroup) => cgroup.clone_target().map_err(cgroup_failed)?,
        None => None,
    };
    let plan = ExecPlan {
        process: request.process,
        filter: profile.map(seccomp::compile).transpose()?,
        cgroup_to_join: cgroup.filter(|_| target.is_none()),
        namespaces: namespaces_of(init_pid)?,
        init,
        console_socket: request.console_socket,
        preserved: request.preserved_descriptors,
    };
    // The new process inherits it, and keeps it where its cgroup and the kernel let it.
    let affinity = request.process.exec_cpu_affinity().as_ref();
    let initial = affinity.and_then(|affinity| affinity.initial().as_deref());
    let unbound = initial.and_then(|cpus| affinity::bind(cpus).err());
    let (ours, theirs) = SyncSocket::pair()?;
    // Only future children enter a pid namespace.
    move_into_thread_name_spaces(plan.init.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        .map_err(step("join the pid namespace"))?;
    let mut clone = CloneRequest::new();
    if request.parent == InitParent::Caller {
        clone = clone.sibling();
    }
    if let Some(target) = &target {
        clone = clone.into_cgroup(target.as_fd());
    }
    let (pid, pidfd) = match clone.spawn().map_err(step("make the process"))? {
        Cloned::Child => run(plan, &theirs),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((plan, theirs));
    let finished = finish(
        &request.process.clone(),
        (&record, &spec),
        request.pid_file,
        pid,
        &ours,
    );
    if finished.is_err() {
        // It ends by itself too when the socket closes; this is only sooner.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        if request.parent == InitParent::Creator {
            let _ = crioxide_sys::reap::wait_for(pid);
        }
    }
    finished.map(|mut warnings| {
        warnings.extend(unbound.map(|error| chain(&error)));
        Executed { pid, warnings }
    })
}

fn open_init(
    directory: &StateDirectory,
    record: &ContainerRecord,
) -> Result<(Pid, OwnedFd), ExecError> {
    let status = record.status(directory);
    let wrong = |status| ExecError::WrongState {
        id: record.id.clone(),
        status,
    };
    if !matches!(status, ContainerStatus::Running | ContainerStatus::Created) {
        return Err(wrong(status));
    }
    let stopped = || wrong(ContainerStatus::Stopped);
    let pid = record.init().ok_or_else(stopped)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| stopped())?;
    // The number may have been given to another process before it was opened; the start time tells.
    record.init().ok_or_else(stopped)?;
    Ok((pid, pidfd))
}

/// The namespaces to join; the user and time namespaces only if they differ, since joining one's own is refused.
fn namespaces_of(init: Pid) -> Result<ThreadNameSpaceType, SetupError> {
    let mut kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    for (name, kind) in [
        ("user", ThreadNameSpaceType::USER),
        ("time", ThreadNameSpaceType::TIME),
    ] {
        let theirs = std::fs::read_link(format!("/proc/{}/ns/{name}", init.as_raw_nonzero())).ok();
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
        if theirs.is_some() && theirs != own {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

/// Follows the new process until it may run, and lets it.
fn finish(
    process: &Process,
    (record, spec): (&ContainerRecord, &Spec),
    pid_file: Option<&Path>,
    pid: Pid,
    sync: &SyncSocket,
) -> Result<Vec<String>, ExecError> {
    let mut warnings = Vec::new();
    loop {
        match sync.hear_with() {
            Some((FromInit::Warning(text), _)) => warnings.push(text),
            Some((FromInit::FilterListener, descriptors)) => {
                let linux = spec.linux().as_ref();
                let profile = linux.and_then(|linux| linux.seccomp().as_ref());
                let (id, bundle) = (&record.id, &record.bundle);
                let state = hooks::state_value(id, "running", record.pid, bundle, spec);
                filter_agent::hand_over(profile, descriptors, pid, state)?;
            }
            Some((FromInit::Ready, _)) => break,
            Some((FromInit::Failed(message), _)) => return Err(ExecError::Process { message }),
            _ => return Err(ExecError::Died),
        }
    }
    set_limits(pid, process.rlimits().as_deref().unwrap_or_default()).map_err(ExecError::Limit)?;
    // Never the score of this process's ancestors, which may be protected.
    let of_container = spec.process().as_ref().and_then(Process::oom_score_adj);
    warnings.extend(set_oom_score(
        pid,
        process.oom_score_adj().or(of_container).unwrap_or(0),
    ));
    if let Some(path) = pid_file {
        write_new(path, pid.as_raw_nonzero().to_string().as_bytes(), 0o644)
            .map_err(ExecError::PidFile)?;
    }
    sync.let_go()?;
    Ok(warnings)
}

fn run(plan: ExecPlan<'_>, sync: &SyncSocket) -> ! {
    let error = join_and_execute(plan, sync);
    // If the other side is gone there is nobody to tell.
    let _ = sync.tell(&FromInit::Failed(chain(&error)));
    exit_now(1)
}

/// Returns only what kept the program from running.
fn join_and_execute(plan: ExecPlan<'_>, sync: &SyncSocket) -> SetupError {
    let prepared = (|| -> Result<_, SetupError> {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(step("protect the process from the container"))?;
        let mut needed = vec![plan.init.as_raw_fd(), sync.as_raw_fd()];
        needed.extend(plan.console_socket.iter().map(AsRawFd::as_raw_fd));
        close_others(plan.preserved, &needed)?;
        if let Some(cgroup) = &plan.cgroup_to_join {
            cgroup.join().map_err(cgroup_failed)?;
        }
        let affinity = plan.process.exec_cpu_affinity().as_ref();
        if let Some(cpus) = affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref()) {
            affinity::bind(cpus)?;
        }
        move_into_thread_name_spaces(plan.init.as_fd(), plan.namespaces)
            .map_err(step("join the container's namespaces"))?;
        if plan.namespaces.contains(ThreadNameSpaceType::USER) {
            become_namespace_root()?;
        }
        rustix::process::setsid().map_err(step("start a session"))?;
        if let Some(socket) = plan
            .console_socket
            .as_ref()
            .filter(|_| plan.process.terminal().unwrap_or(false))
        {
            let console = Console::open(None, &InRoot::open("/")?)?;
            console.configure(plan.process)?;
            console.send(socket.as_fd())?;
            console.take_as_stdio()?;
        }
        needs_private_proc(plan.process)
            .then(PrivateProc::open)
            .transpose()
    })();
    let proc = match prepared {
        Ok(proc) => proc,
        Err(error) => return error,
    };
    let setup = ProcessSetup {
        process: plan.process,
        filter: plan.filter.as_ref(),
        session_keyring: None,
        private_proc: proc.as_ref(),
    };
    let ready = setup.prepare(sync).and_then(|command| {
        sync.tell(&FromInit::Ready)?;
        sync.wait()?;
        Ok(command)
    });
    match ready {
        Ok(command) => setup.execute(&command),
        Err(error) => error,
    }
}

fn cgroup_failed(error: crioxide_cgroups::CgroupProcessError) -> SetupError {
    let (path, source): (PathBuf, io::Error) = (error.directory, error.source);
    SetupError::Path {
        action: "join cgroup",
        path,
        source,
    }
}
