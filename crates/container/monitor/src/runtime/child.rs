//! The short-lived children that make containers and run processes in them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crioxide_monitor_protocol::{Failure, FailureKind};
use crioxide_sys::descriptors::{CloseMode, close_from, place_at};
use crioxide_sys::fork::{Fork, exit_now, fork};
use crioxide_sys::signals::reset_to_defaults;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::clients::ReplyTo;
use crate::streams::stdio::ChildEnds;
use crate::watcher::ContainerKey;

/// Exit code of a child whose runtime could not be run or failed in-process; the reason is in the report.
const FAILED: i32 = 125;

/// Most bytes of a report; a pipe takes them without anybody reading.
const REPORT_LIMIT: usize = 32 * 1024;

/// What a child is for.
pub(crate) enum Purpose {
    Create {
        container: ContainerKey,
        reply: ReplyTo,
    },
    /// `delete --force` after a failed create, whose failure is answered when this is over.
    CleanUp {
        container: ContainerKey,
        reply: ReplyTo,
        failure: Failure,
    },
    Exec {
        container: String,
        /// Whether the built-in runtime makes it, which reports the process id itself.
        builtin: bool,
        exec: String,
        reply: ReplyTo,
        files: ExecFiles,
    },
}

/// What an exec needs until the runtime has read it.
pub(crate) struct ExecFiles {
    /// The process document, reachable by the runtime through `/proc/<monitor>/fd`.
    pub(crate) _document: OwnedFd,
    pub(crate) pid_file: std::path::PathBuf,
}

/// A living child.
pub(crate) struct RuntimeChild {
    pub(crate) pid: Pid,
    pub(crate) purpose: Purpose,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timed_out: bool,
    /// An exec that was given up gets this signal when it runs. To kill the runtime instead could leave a process that
    /// runs already and that nobody knows.
    pub(crate) signal_when_started: Option<i32>,
    report: OwnedFd,
}

/// What runs in the child.
pub(crate) enum Work<'a> {
    /// This program.
    Execute { path: &'a Path, args: Vec<OsString> },
    /// This function, whose text goes into the report.
    Call(&'a dyn Fn() -> Result<String, String>),
}

/// What the child inherits of the monitor's own protection.
pub(crate) struct ChildSettings {
    /// `oom_score_adj` to go back to, if the monitor changed its own.
    pub(crate) oom_score_adj: Option<i32>,
}

impl RuntimeChild {
    /// Forks and runs `work` on the given standard descriptors.
    pub(crate) fn start(
        work: &Work<'_>,
        ends: ChildEnds,
        settings: &ChildSettings,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> io::Result<Self> {
        let (report, report_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        match fork()? {
            Fork::Parent(pid) => Ok(Self {
                pid,
                purpose,
                deadline,
                timed_out: false,
                signal_when_started: None,
                report,
            }),
            Fork::Child => {
                drop(report);
                let code = run(work, ends, settings, std::fs::File::from(report_write));
                exit_now(code)
            }
        }
    }

    /// Ends it and everything it started in its process group.
    pub(crate) fn kill(&self) {
        // It may not have made its group yet, or have ended.
        if kill_process_group(self.pid, Signal::KILL).is_err() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// What it reported. To be asked after it ended.
    pub(crate) fn report(&self) -> String {
        let mut bytes = vec![0; REPORT_LIMIT];
        let count = rustix::io::read(&self.report, &mut bytes).unwrap_or(0);
        bytes.truncate(count);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The failure of a child, from its report and what it wrote to stderr.
pub(crate) fn failure(timed_out: bool, operation: &str, report: &str, stderr: &str) -> Failure {
    if timed_out {
        return Failure::new(
            FailureKind::Timeout,
            format!("container {operation} timeout: the runtime was killed"),
        );
    }
    let text = match (report.trim(), stderr.trim()) {
        ("", "") => "the runtime failed without a word",
        ("", said) => said,
        (reported, _) => reported,
    };
    Failure::new(FailureKind::Runtime, text)
}

fn run(
    work: &Work<'_>,
    ends: ChildEnds,
    settings: &ChildSettings,
    mut report: std::fs::File,
) -> i32 {
    let result = prepare(&ends, settings)
        .map_err(|error| format!("cannot prepare the process that runs the runtime: {error}"))
        .and_then(|()| match work {
            Work::Execute { path, args } => {
                let error = Command::new(path).args(args).exec();
                Err(format!(
                    "cannot run the runtime `{}`: {error}",
                    path.display()
                ))
            }
            Work::Call(function) => function(),
        });
    let (code, mut text) = match result {
        Ok(text) => (0, text),
        Err(text) => (FAILED, text),
    };
    let mut end = text.len().min(REPORT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    // A pipe takes this much at once; without a reader nobody wants to know.
    let _ = report.write_all(text.as_bytes());
    code
}

fn prepare(ends: &ChildEnds, settings: &ChildSettings) -> io::Result<()> {
    reset_to_defaults();
    rustix::process::setpgid(None, None)?;
    // A half-made container must not outlive the monitor that would own it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Some(value) = settings.oom_score_adj {
        let _ = std::fs::write("/proc/self/oom_score_adj", value.to_string());
    }
    place_at(&ends.stdin, 0)?;
    place_at(&ends.stdout, 1)?;
    place_at(&ends.stderr, 2)?;
    close_from(3, CloseMode::OnExec)
}
