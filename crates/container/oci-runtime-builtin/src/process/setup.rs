//! The last steps before a user's process runs, the same for the first process and for any further one.

use std::io::Write;
use std::os::fd::{AsFd, RawFd};
use std::path::Path;

use crioxide_confinement::seccomp::Filter;
use crioxide_sys::scheduling::{SchedulingAttributes, set_io_priority, set_scheduling};
use crioxide_sys::{descriptors, exec, fork, signals};
use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process};
use rustix::process::{chdir, getcwd};

use crate::process::command::{self, ExecutableCommand};
use crate::process::identity;
use crate::rootfs::private_proc::PrivateProc;
use crate::setup_error::{SetupError, at, step};
use crate::sync::{FromInit, SyncSocket};

/// Exit code when the program cannot be executed after all.
const EXECUTE_FAILED: i32 = 255;

/// A process about to be executed.
#[derive(Debug)]
pub(crate) struct ProcessSetup<'a> {
    pub(crate) process: &'a Process,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) session_keyring: Option<&'a str>,
    pub(crate) private_proc: Option<&'a PrivateProc>,
}

/// When a process puts itself under its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterTime {
    /// While it still has the capability that a filter needs.
    BeforeCapabilities,
    /// As late as its maker is still there to take the descriptor of a filter that holds calls up.
    BeforeReady,
    /// With `no_new_privs` a filter needs no capability, so it comes last and does not confine the runtime's own calls.
    Last,
}

/// Whether anything of a process is set through procfs.
pub(crate) fn needs_private_proc(process: &Process) -> bool {
    let set = |value: &Option<String>| value.as_deref().is_some_and(|text| !text.is_empty());
    set(process.apparmor_profile()) || set(process.selinux_label())
}

impl ProcessSetup<'_> {
    /// Takes on everything the process is to have, and finds its program. Its maker is told what could not be had, and
    /// gets the descriptor of a filter that holds calls up.
    pub(crate) fn prepare(&self, sync: &SyncSocket) -> Result<ExecutableCommand, SetupError> {
        let process = self.process;
        if let Some(id) = self.session_keyring {
            self.join_keyring(id)?;
        }
        self.set_labels()?;
        set_priorities(process)?;
        if process.no_new_privileges().unwrap_or(false) {
            rustix::thread::set_no_new_privs(true).map_err(step("set no_new_privs"))?;
        }
        identity::own_stdio(process.user());
        let capabilities = identity::capabilities(process);
        if let Some((sets, missing)) = &capabilities {
            if !missing.is_empty() {
                let missing = missing.join(", ");
                // A maker that is gone shows at the next step.
                let _ = sync.tell(&FromInit::Warning(format!(
                    "the host lacks {missing}; the process runs without"
                )));
            }
            sets.apply_bounding()?;
        }
        identity::become_user(process.user())?;
        enter(process.cwd())?;
        if self.filter_time() == FilterTime::BeforeCapabilities {
            self.load_filter(Some(sync))?;
        }
        if let Some((sets, _)) = &capabilities {
            sets.apply_sets()?;
        }
        let mut environment = process.env().clone().unwrap_or_default();
        identity::add_home(&mut environment, process.user().uid());
        let arguments = process.args().as_deref().unwrap_or_default();
        let command = command::find(arguments, &environment)?;
        if self.filter_time() == FilterTime::BeforeReady {
            self.load_filter(Some(sync))?;
        }
        Ok(command)
    }

    /// Replaces this process by the program. Returns never: what fails here is written to the process's stderr.
    pub(crate) fn execute(&self, command: &ExecutableCommand) -> ! {
        let failed = |text: &str| -> ! {
            // Nobody else is listening any more.
            let _ = std::io::stderr().write_all(text.as_bytes());
            fork::exit_now(EXECUTE_FAILED)
        };
        signals::reset_to_defaults();
        if self.filter_time() == FilterTime::Last
            && let Err(error) = self.load_filter(None)
        {
            failed(&format!("{}\n", crate::setup_error::chain(&error)));
        }
        let error = exec::execute_path(&command.path, &command.arguments, &command.environment);
        failed(&command::execute_failure(&command.path, &error))
    }

    fn filter_time(&self) -> FilterTime {
        let no_new_privileges = self.process.no_new_privileges().unwrap_or(false);
        match no_new_privileges {
            false => FilterTime::BeforeCapabilities,
            true if self.filter.is_some_and(Filter::notifies) => FilterTime::BeforeReady,
            true => FilterTime::Last,
        }
    }

    fn load_filter(&self, sync: Option<&SyncSocket>) -> Result<(), SetupError> {
        let Some(filter) = self.filter else {
            return Ok(());
        };
        let listener = filter.load().map_err(step("load the seccomp filter"))?;
        match (listener, sync) {
            (Some(listener), Some(sync)) => {
                sync.tell_with(&FromInit::FilterListener, &[listener.as_fd()])
            }
            _ => Ok(()),
        }
    }

    fn join_keyring(&self, id: &str) -> Result<(), SetupError> {
        use rustix::io::Errno;
        let name = std::ffi::CString::new(format!("_ses.{id}"))
            .map_err(|_| step("name the keyring")(Errno::INVAL))?;
        match crioxide_sys::keyring::join_session_keyring(&name) {
            // A kernel without keys has none to keep apart.
            Err(error) if error.raw_os_error() != Some(Errno::NOSYS.raw_os_error()) => {
                Err(step("join a session keyring")(error))
            }
            _ => Ok(()),
        }
    }

    fn set_labels(&self) -> Result<(), SetupError> {
        let given = |value: &'_ Option<String>| value.clone().filter(|text| !text.is_empty());
        let Some(proc) = self.private_proc else {
            return Ok(());
        };
        if let Some(label) = given(self.process.selinux_label()) {
            proc.set_key_label(&label)?;
            proc.set_exec_label(&label)?;
        }
        if let Some(profile) = given(self.process.apparmor_profile()) {
            proc.set_apparmor_profile(&profile)?;
        }
        Ok(())
    }
}

/// Closes everything but stdio, `preserved` more descriptors for the program, and those in `needed`, which are
/// close-on-exec already.
///
/// A forked process would otherwise hold open whatever its ancestors had: the pipes of other containers, whose readers
/// would wait for an end that does not come.
pub(crate) fn close_others(preserved: u32, needed: &[RawFd]) -> Result<(), SetupError> {
    let first = 3_i32.saturating_add(i32::try_from(preserved).unwrap_or(i32::MAX));
    for number in 3..first {
        if !needed.contains(&number) {
            // A gap in the range is the caller's business.
            let _ = descriptors::keep_on_exec(number);
        }
    }
    descriptors::close_all_except(first, needed).map_err(step("close descriptors"))
}

/// Enters the working directory and makes sure that it is in the container: a path through a descriptor of the host
/// (`/proc/self/fd/7`) would be a way out.
fn enter(cwd: &Path) -> Result<(), SetupError> {
    chdir(cwd).map_err(at("enter working directory", cwd))?;
    // The kernel prefixes a directory outside of the root with `(unreachable)`.
    match getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(SetupError::CwdOutside {
            cwd: cwd.to_owned(),
        }),
    }
}

fn set_priorities(process: &Process) -> Result<(), SetupError> {
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u16::try_from(priority.priority()).unwrap_or(u16::MAX);
        set_io_priority(class, level).map_err(step("set the I/O priority"))?;
    }
    let Some(scheduler) = process.scheduler() else {
        return Ok(());
    };
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    let attributes = SchedulingAttributes {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).sum(),
        nice: scheduler.nice().unwrap_or_default(),
        priority: u32::try_from(scheduler.priority().unwrap_or_default()).unwrap_or_default(),
        runtime: scheduler.runtime().unwrap_or_default(),
        deadline: scheduler.deadline().unwrap_or_default(),
        period: scheduler.period().unwrap_or_default(),
        ..SchedulingAttributes::default()
    };
    set_scheduling(attributes).map_err(step("set the scheduler"))
}
