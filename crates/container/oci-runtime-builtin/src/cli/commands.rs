//! What each command does.

use std::io::{Read, Write};
use std::path::Path;

use clap::ArgMatches;
use crioxide_cgroups::Driver;
use crioxide_files::read_limited;
use crioxide_oci_runtime::{DeleteMode, KillScope, OciRuntime};
use crioxide_sys::reap::wait_for;
use oci_spec::runtime::{LinuxResources, Spec};
use rustix::process::Signal;

use super::{console_socket, process_flags};
use crate::bundle::read_spec;
use crate::create::{CreateRequest, Created, InitParent, SessionKeyring, create};
use crate::exec::{ExecRequest, exec};
use crate::record::StateDirectory;
use crate::rootfs::root_switch::RootSwitch;
use crate::runtime::BuiltinRuntime;

type AnyError = Box<dyn std::error::Error>;

/// Largest resources file that is read.
const RESOURCES_LIMIT: u64 = 1 << 20;

/// Runs the command that was asked for.
pub(super) fn run(matches: &ArgMatches) -> Result<i32, AnyError> {
    let root = matches
        .get_one::<String>("root")
        .map(String::as_str)
        .unwrap_or_default();
    let runtime = BuiltinRuntime::new(root);
    let (name, arguments) = matches.subcommand().ok_or("no command given")?;
    let id = || {
        arguments
            .get_one::<String>("id")
            .map(String::as_str)
            .unwrap_or_default()
    };
    match name {
        "create" => {
            warn(&create_container(matches, arguments, InitParent::Caller)?.warnings);
        }
        "run" => return run_container(&runtime, matches, arguments),
        "start" => runtime.start(id())?,
        "state" => print(&serde_json::to_string_pretty(&runtime.state(id())?)?)?,
        "kill" => {
            let scope = if arguments.get_flag("all") {
                KillScope::All
            } else {
                KillScope::Init
            };
            let signal = arguments
                .get_one::<String>("signal")
                .map(String::as_str)
                .unwrap_or_default();
            runtime.kill(id(), parse_signal(signal)?, scope)?;
        }
        "delete" => {
            let mode = if arguments.get_flag("force") {
                DeleteMode::Force
            } else {
                DeleteMode::Stopped
            };
            runtime.delete(id(), mode)?;
        }
        "exec" => return exec_process(&runtime, arguments),
        "list" => list(&runtime, arguments)?,
        "pause" => runtime.pause(id())?,
        "resume" => runtime.resume(id())?,
        "update" => runtime.update(id(), &resources(arguments)?)?,
        "features" => print(&serde_json::to_string_pretty(&runtime.features()?)?)?,
        "spec" => write_spec(arguments)?,
        other => return Err(format!("unknown command `{other}`").into()),
    }
    Ok(0)
}

fn create_container(
    matches: &ArgMatches,
    arguments: &ArgMatches,
    init_parent: InitParent,
) -> Result<Created, AnyError> {
    let text = |name: &str| arguments.get_one::<String>(name).map(String::as_str);
    let systemd = matches.get_flag("systemd-cgroup")
        || matches
            .get_one::<String>("cgroup-manager")
            .is_some_and(|manager| manager == "systemd");
    let socket = text("console-socket")
        .map(Path::new)
        .map(console_socket::connect)
        .transpose()?;
    let root = matches
        .get_one::<String>("root")
        .map(String::as_str)
        .unwrap_or_default();
    let pivot = !arguments.get_flag("no-pivot");
    let keyring = !arguments.get_flag("no-new-keyring");
    Ok(create(CreateRequest {
        id: text("id").unwrap_or_default(),
        bundle: Path::new(text("bundle").unwrap_or(".")),
        root: Path::new(root),
        pid_file: text("pid-file").map(Path::new),
        console_socket: socket,
        root_switch: if pivot {
            RootSwitch::Pivot
        } else {
            RootSwitch::Chroot
        },
        cgroup_driver: if systemd {
            Driver::Systemd
        } else {
            Driver::Cgroupfs
        },
        preserved_descriptors: arguments.get_one("preserve-fds").copied().unwrap_or(0),
        keyring: if keyring {
            SessionKeyring::New
        } else {
            SessionKeyring::Inherit
        },
        init_parent,
    })?)
}

fn run_container(
    runtime: &BuiltinRuntime,
    matches: &ArgMatches,
    arguments: &ArgMatches,
) -> Result<i32, AnyError> {
    let id = arguments
        .get_one::<String>("id")
        .map(String::as_str)
        .unwrap_or_default();
    let detach = arguments.get_flag("detach");
    let parent = if detach {
        InitParent::Caller
    } else {
        InitParent::Creator
    };
    let created = create_container(matches, arguments, parent)?;
    warn(&created.warnings);
    if let Err(error) = runtime.start(id) {
        // The start's error is the one to report.
        let _ = runtime.delete(id, DeleteMode::Force);
        return Err(error.into());
    }
    if detach {
        return Ok(0);
    }
    let ending = wait_for(created.pid)?;
    if !arguments.get_flag("keep") {
        runtime.delete(id, DeleteMode::Force)?;
    }
    Ok(ending.shell_code())
}

fn exec_process(runtime: &BuiltinRuntime, arguments: &ArgMatches) -> Result<i32, AnyError> {
    let text = |name: &str| arguments.get_one::<String>(name).map(String::as_str);
    let id = text("id").unwrap_or_default();
    let process = process_flags::process(arguments, || {
        let record = StateDirectory::at(runtime.root(), id)?.load()?;
        let spec = read_spec(&record.bundle)?;
        spec.process()
            .clone()
            .ok_or_else(|| "the container's configuration has no process".into())
    })?;
    let socket = text("console-socket")
        .map(Path::new)
        .map(console_socket::connect)
        .transpose()?;
    let detach = arguments.get_flag("detach");
    let executed = exec(ExecRequest {
        id,
        root: runtime.root(),
        process: &process,
        pid_file: text("pid-file").map(Path::new),
        console_socket: socket,
        preserved_descriptors: arguments.get_one("preserve-fds").copied().unwrap_or(0),
        parent: if detach {
            InitParent::Caller
        } else {
            InitParent::Creator
        },
    })?;
    warn(&executed.warnings);
    if detach {
        Ok(0)
    } else {
        Ok(wait_for(executed.pid)?.shell_code())
    }
}

fn list(runtime: &BuiltinRuntime, arguments: &ArgMatches) -> Result<(), AnyError> {
    let states = runtime.list()?;
    if arguments.get_flag("quiet") {
        let ids: Vec<&str> = states.iter().map(|state| state.id.as_str()).collect();
        return if ids.is_empty() {
            Ok(())
        } else {
            print(&ids.join("\n"))
        };
    }
    if arguments
        .get_one::<String>("format")
        .is_some_and(|format| format == "json")
    {
        return print(&serde_json::to_string(&states)?);
    }
    let mut table = format!("{:<40} {:<8} {:<8} BUNDLE", "ID", "PID", "STATUS");
    for state in states {
        table += &format!(
            "\n{:<40} {:<8} {:<8} {}",
            state.id,
            state.pid,
            state.status,
            state.bundle.display()
        );
    }
    print(&table)
}

fn resources(arguments: &ArgMatches) -> Result<LinuxResources, AnyError> {
    let path = arguments
        .get_one::<String>("resources")
        .map(String::as_str)
        .unwrap_or_default();
    let bytes = if path == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .take(RESOURCES_LIMIT)
            .read_to_end(&mut bytes)?;
        bytes
    } else {
        read_limited(path, RESOURCES_LIMIT)?
    };
    Ok(serde_json::from_slice(&bytes)?)
}

fn write_spec(arguments: &ArgMatches) -> Result<(), AnyError> {
    let directory = arguments
        .get_one::<String>("bundle")
        .map(String::as_str)
        .unwrap_or(".");
    let mut spec = Spec::default();
    spec.set_hostname(Some("crioxide".to_owned()));
    let mut file = std::fs::File::create_new(Path::new(directory).join("config.json"))?;
    Ok(file.write_all(serde_json::to_string_pretty(&spec)?.as_bytes())?)
}

/// A signal by number or by name, with or without `SIG`.
fn parse_signal(text: &str) -> Result<i32, AnyError> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return Signal::from_named_raw(number)
            .map(Signal::as_raw)
            .ok_or_else(|| format!("unknown signal `{text}`").into());
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let position = NAMES.iter().position(|name| *name == bare);
    position
        .map(|index| index as i32 + 1)
        .ok_or_else(|| format!("unknown signal `{text}`").into())
}

fn print(text: &str) -> Result<(), AnyError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        // A warning that nobody can read is no reason to fail.
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigwinch", 28),
            ("SYS", 31),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number);
        }
        assert!(
            parse_signal("NOPE").is_err()
                && parse_signal("-1").is_err()
                && parse_signal("200").is_err()
        );
    }
}
