//! The process that stays.

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use crioxide_shim_client::messages::{
    CloseIoRequest, ConnectResponse, CreateTaskRequest, ExecProcessRequest, KillRequest,
    PidResponse, ProcessRequest, Request, ShutdownRequest, StatsResponse, UpdateTaskRequest,
};
use crioxide_shim_client::{
    events::{Envelope, ForwardRequest, TaskOom},
    messages::Any,
    metrics,
};
use prost::Message;
use rustix::process::{getpid, set_child_subreaper};

use crate::Pod;
use crate::tasks::Tasks;
use crate::wire::{self, Refusal};

/// What every container uses, as far as this shim tells.
const CPU_MICROSECONDS: u64 = 123_000_000;
const MEMORY: u64 = 77 << 20;

pub(crate) fn run(publisher: &Path, bundle: &Path) -> Result<()> {
    let log = std::fs::OpenOptions::new().write(true).open("log")?;
    writeln!(&log, "serving on behalf of a test")?;
    set_child_subreaper(Some(getpid()))?;
    let pod = Pod::of(bundle)?;
    let dies = pod.wants("dies");
    if pod.wants("starves") {
        let program = std::env::var_os("TTRPC_ADDRESS").context("nobody to tell events")?;
        *EVENTS.lock().unwrap_or_else(PoisonError::into_inner) = Some(program.into());
    }
    let tasks = Arc::new(Tasks::new(publisher, &pod.runtime_root(bundle)?));
    let reaper = tasks.clone();
    std::thread::spawn(move || reaper.reap());
    // The socket, on which it listened before it was this process.
    let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    for connection in UnixListener::from(socket).incoming() {
        let (tasks, connection) = (tasks.clone(), connection?);
        std::thread::spawn(move || {
            // A client that talks nonsense loses its connection.
            let _ = talk(connection, &tasks, dies);
        });
    }
    Ok(())
}

fn talk(mut connection: UnixStream, tasks: &Arc<Tasks>, dies: bool) -> Result<()> {
    let writer = Arc::new(Mutex::new(connection.try_clone()?));
    while let Some((stream, request)) = wire::receive(&mut connection)? {
        if dies && request.method == "Create" {
            std::process::exit(1);
        }
        let (tasks, writer) = (tasks.clone(), writer.clone());
        std::thread::spawn(move || {
            let result = match request.service.as_str() {
                "containerd.task.v3.Task" => serve(&tasks, &request.method, &request.payload),
                other => Err(Refusal(12, format!("no service {other}"))),
            };
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = wire::answer(&mut *writer, stream, result);
        });
    }
    Ok(())
}

fn serve(tasks: &Tasks, method: &str, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
    let process = || ProcessRequest::decode(payload);
    let nothing = |()| Vec::new();
    match method {
        "Create" => {
            let pid = tasks.create(&CreateTaskRequest::decode(payload)?)?;
            Ok(PidResponse { pid }.encode_to_vec())
        }
        "Start" => {
            let pid = tasks.start(&process()?)?;
            Ok(PidResponse { pid }.encode_to_vec())
        }
        "State" => Ok(tasks.state(&process()?)?.encode_to_vec()),
        "Wait" => {
            let request = process()?;
            let ended = tasks.wait(&request)?;
            tell_lack_of_memory(&request.id)?;
            Ok(ended.encode_to_vec())
        }
        "Delete" => Ok(tasks.delete(&process()?)?.encode_to_vec()),
        "Kill" => tasks.kill(&KillRequest::decode(payload)?).map(nothing),
        "Exec" => tasks
            .exec(&ExecProcessRequest::decode(payload)?)
            .map(nothing),
        "CloseIO" => {
            let request = CloseIoRequest::decode(payload)?;
            tasks.close_stdin(&request.id, &request.exec_id);
            Ok(Vec::new())
        }
        "Pause" => tasks.runtime(&["pause", &process()?.id]).map(nothing),
        "Resume" => tasks.runtime(&["resume", &process()?.id]).map(nothing),
        "Update" => tasks
            .update(&UpdateTaskRequest::decode(payload)?)
            .map(nothing),
        "Stats" => Ok(StatsResponse {
            stats: Some(used()),
        }
        .encode_to_vec()),
        "Connect" => Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: 0,
        }
        .encode_to_vec()),
        "Shutdown" => {
            ShutdownRequest::decode(payload)?;
            if tasks.is_empty() {
                // In the middle of the call, as kata's does.
                std::process::exit(0);
            }
            Ok(Vec::new())
        }
        other => Err(Refusal(12, format!("no method {other}"))),
    }
}

/// Where lack of memory is told, if that is wanted.
static EVENTS: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Tells containerd, or who takes its place, that memory ran out in a container, and waits for the answer.
fn tell_lack_of_memory(id: &str) -> Result<()> {
    let events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(path) = &*events else {
        return Ok(());
    };
    let oom = TaskOom {
        container_id: id.to_owned(),
    };
    let event = Some(Any {
        type_url: "containerd.events.TaskOOM".to_owned(),
        value: oom.encode_to_vec(),
    });
    let payload = ForwardRequest {
        envelope: Some(Envelope { event }),
    };
    let request = Request {
        service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
        method: "Forward".to_owned(),
        payload: payload.encode_to_vec(),
        ..Request::default()
    };
    let mut socket = UnixStream::connect(path)?;
    wire::ask(&mut socket, &request)
}

/// The figures of a guest with cgroup v2.
fn used() -> Any {
    let metrics = metrics::Version2 {
        pids: Some(metrics::Pids { current: 9 }),
        cpu: Some(metrics::Cpu2 {
            usage_usec: CPU_MICROSECONDS,
        }),
        memory: Some(metrics::Memory2 {
            usage: MEMORY,
            inactive_file: 7 << 20,
            ..metrics::Memory2::default()
        }),
    };
    Any {
        type_url: "io.containerd.cgroups.v2.Metrics".to_owned(),
        value: metrics.encode_to_vec(),
    }
}
