//! Handlers by name, with the programs that some have for containers of other platforms.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use crioxide_engine::ports::{PortResult, handler_and_program};
use crioxide_monitor_client::RuntimeCommand;
use crioxide_oci_runtime::{CgroupDriver, CommandRuntime, OciRuntime};

use super::{HandlerRuntime, Processes};

/// A runtime for the daemon, and how a monitor runs it.
pub(crate) type Runtime = (Arc<dyn OciRuntime>, RuntimeCommand);

/// The runtime program at `path` with the state directory `root`.
pub(crate) fn by_command(path: PathBuf, root: PathBuf, systemd_cgroup: bool) -> Runtime {
    let driver = match systemd_cgroup {
        true => CgroupDriver::Systemd,
        false => CgroupDriver::Cgroupfs,
    };
    let runtime = CommandRuntime::new(&path, &root, driver);
    let command = RuntimeCommand::Command {
        path,
        root,
        systemd_cgroup,
        args: Vec::new(),
    };
    (Arc::new(runtime), command)
}

impl Processes {
    /// The handler of this name, which [`crioxide_engine::ports::runtime_name`] made.
    pub(super) fn handler(&self, name: &str) -> PortResult<Cow<'_, HandlerRuntime>> {
        let (name, program) = handler_and_program(name);
        let handler = self.usual_handler(name)?;
        Ok(match program {
            None => Cow::Borrowed(handler),
            Some(program) => Cow::Owned(handler.run_by(program.to_owned())),
        })
    }

    /// The handler of this name with its usual program.
    pub(super) fn usual_handler(&self, name: &str) -> PortResult<&HandlerRuntime> {
        let handler = self.settings.handlers.get(name);
        Ok(handler.ok_or_else(|| format!("runtime handler {name} is not configured"))?)
    }
}

impl HandlerRuntime {
    /// The same handler with another program. Its state directory is the same, as of CRI-O.
    fn run_by(&self, program: PathBuf) -> Self {
        let (root, systemd_cgroup) = match &self.command {
            RuntimeCommand::Builtin {
                root,
                systemd_cgroup,
            }
            | RuntimeCommand::Command {
                root,
                systemd_cgroup,
                ..
            } => (root.clone(), *systemd_cgroup),
        };
        let (runtime, command) = by_command(program, root, systemd_cgroup);
        Self {
            runtime,
            command,
            ..self.clone()
        }
    }
}
