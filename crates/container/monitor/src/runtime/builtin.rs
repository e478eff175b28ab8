//! The built-in runtime, called in a forked child of the monitor: no program is executed to make a container.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crioxide_cgroups::Driver;
use crioxide_monitor_protocol::{Checkpoint, CreateContainer, RuntimeCommand};
use crioxide_oci_runtime::{DeleteMode, OciRuntime};
use crioxide_oci_runtime_builtin as runtime;

/// Longest process document: an environment of a few thousand variables.
const PROCESS_LIMIT: u64 = 4 << 20;

/// Makes the container; its first process becomes a child of the monitor. The text is for [`parse_report`].
pub(crate) fn create(request: &CreateContainer, console: Option<&Path>) -> Result<String, String> {
    let RuntimeCommand::Builtin {
        root,
        systemd_cgroup,
    } = &request.runtime
    else {
        return Err(wrong_runtime());
    };
    let pid_file = request.bundle.join("pidfile");
    let created = runtime::create(runtime::CreateRequest {
        id: &request.id,
        bundle: &request.bundle,
        root,
        pid_file: Some(&pid_file),
        console_socket: console.map(connect).transpose()?,
        root_switch: if request.no_pivot {
            runtime::RootSwitch::Chroot
        } else {
            runtime::RootSwitch::Pivot
        },
        cgroup_driver: driver(*systemd_cgroup),
        preserved_descriptors: 0,
        keyring: runtime::SessionKeyring::New,
        init_parent: runtime::InitParent::Caller,
    })
    .map_err(|error| chain(&error))?;
    Ok(report(
        created.pid.as_raw_nonzero().get(),
        &created.warnings,
    ))
}

/// Makes the container of a checkpoint; its first process becomes a child of the monitor. The text is for
/// [`parse_report`].
pub(crate) fn restore(
    request: &CreateContainer,
    checkpoint: &Checkpoint,
) -> Result<String, String> {
    let RuntimeCommand::Builtin {
        root,
        systemd_cgroup,
    } = &request.runtime
    else {
        return Err(wrong_runtime());
    };
    let restored = runtime::restore(&runtime::RestoreRequest {
        id: &request.id,
        bundle: &request.bundle,
        root,
        pid_file: &request.bundle.join("pidfile"),
        cgroup_driver: driver(*systemd_cgroup),
        criu: &checkpoint.criu,
        images: &checkpoint.images,
        work: &checkpoint.work,
    })
    .map_err(|error| chain(&error))?;
    Ok(report(
        restored.pid.as_raw_nonzero().get(),
        &restored.warnings,
    ))
}

fn driver(systemd: bool) -> Driver {
    match systemd {
        true => Driver::Systemd,
        false => Driver::Cgroupfs,
    }
}

/// Runs the process of the document at `process` in a container; it becomes a child of the monitor. The text is for
/// [`parse_report`].
pub(crate) fn exec(
    command: &RuntimeCommand,
    id: &str,
    process: &Path,
    console: Option<&Path>,
) -> Result<String, String> {
    let RuntimeCommand::Builtin { root, .. } = command else {
        return Err(wrong_runtime());
    };
    let document =
        crioxide_files::read_limited(process, PROCESS_LIMIT).map_err(|error| chain(&error))?;
    let process = serde_json::from_slice(&document)
        .map_err(|error| format!("the process document is malformed: {error}"))?;
    let executed = runtime::exec(runtime::ExecRequest {
        id,
        root,
        process: &process,
        pid_file: None,
        console_socket: console.map(connect).transpose()?,
        preserved_descriptors: 0,
        parent: runtime::InitParent::Caller,
    })
    .map_err(|error| chain(&error))?;
    Ok(report(
        executed.pid.as_raw_nonzero().get(),
        &executed.warnings,
    ))
}

/// Lets the runtime forget a container whose creation failed.
pub(crate) fn delete(command: &RuntimeCommand, id: &str) -> Result<String, String> {
    let RuntimeCommand::Builtin { root, .. } = command else {
        return Err(wrong_runtime());
    };
    let deleted = runtime::BuiltinRuntime::new(root).delete(id, DeleteMode::Force);
    deleted
        .map(|()| String::new())
        .map_err(|error| chain(&error))
}

/// Pid and warnings from a report.
pub(crate) fn parse_report(report: &str) -> Result<(i32, Vec<String>), String> {
    serde_json::from_str(report)
        .map_err(|error| format!("the built-in runtime's report is malformed: {error}"))
}

fn report(pid: i32, warnings: &[String]) -> String {
    serde_json::json!([pid, warnings]).to_string()
}

fn connect(path: &Path) -> Result<OwnedFd, String> {
    let connected: io::Result<UnixStream> = UnixStream::connect(path);
    connected.map(OwnedFd::from).map_err(|error| {
        format!(
            "cannot connect to the console socket `{}`: {error}",
            path.display()
        )
    })
}

fn wrong_runtime() -> String {
    "the container is not one of the built-in runtime".to_owned()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
