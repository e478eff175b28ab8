//! The processes of a cgroup: joining, listing, freezing, killing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Cgroup, CgroupLayout, files};

/// A failed operation on the members of a cgroup.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} cgroup `{}`", directory.display())]
pub struct CgroupProcessError {
    /// `join`, `freeze`, ...
    pub operation: &'static str,
    /// The directory.
    pub directory: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Cgroup {
    /// Moves the calling process into the cgroup, in every hierarchy. The caller must have one thread.
    ///
    /// On version 1 the `tasks` file is used: it moves without waiting for a grace period, unlike `cgroup.procs`.
    ///
    /// # Errors
    /// The first hierarchy that refuses.
    pub fn join(&self) -> Result<(), CgroupProcessError> {
        self.join_directories(self.directories())
    }

    /// As [`Cgroup::join`], but on version 1 only where processor time, memory and processes are limited and counted, and
    /// in named hierarchies: for a helper that is part of what the group uses, and is not to be frozen with it.
    ///
    /// # Errors
    /// As [`Cgroup::join`].
    pub fn join_accounting(&self) -> Result<(), CgroupProcessError> {
        let CgroupLayout::Legacy { hierarchies, .. } = self.layout else {
            return self.join();
        };
        let counts = |name: &String| {
            matches!(name.as_str(), "cpu" | "cpuacct" | "memory" | "pids")
                || name.starts_with("name=")
        };
        let chosen = hierarchies
            .iter()
            .filter(|hierarchy| hierarchy.controllers.iter().any(counts))
            .map(|hierarchy| hierarchy.mount_point.join(&self.directory));
        self.join_directories(chosen.collect())
    }

    /// Moves another process into the cgroup, with all its threads.
    ///
    /// # Errors
    /// The first hierarchy that refuses.
    pub fn add(&self, process: Pid) -> Result<(), CgroupProcessError> {
        let number = process.as_raw_nonzero().to_string();
        for directory in self.directories() {
            files::write(&directory.join("cgroup.procs"), &number).map_err(|source| {
                CgroupProcessError {
                    operation: "add a process to",
                    directory,
                    source,
                }
            })?;
        }
        Ok(())
    }

    /// On version 2 the descriptor that `clone3` with `CLONE_INTO_CGROUP` wants; `None` on version 1, where the child
    /// calls [`Cgroup::join`].
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn clone_target(&self) -> Result<Option<OwnedFd>, CgroupProcessError> {
        let CgroupLayout::Unified(root) = self.layout else {
            return Ok(None);
        };
        let directory = root.join(&self.directory);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&directory, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) => Err(CgroupProcessError {
                operation: "open",
                directory,
                source: error.into(),
            }),
        }
    }

    /// The processes in the cgroup and its descendants. A cgroup that does not exist has none.
    ///
    /// # Errors
    /// The member lists cannot be read.
    pub fn processes(&self) -> Result<Vec<Pid>, CgroupProcessError> {
        let mut found = Vec::new();
        let Some(directory) = self.member_directory() else {
            return Ok(found);
        };
        match collect(&directory, &mut found) {
            Err(source) => Err(CgroupProcessError {
                operation: "list the processes of",
                directory,
                source,
            }),
            Ok(()) => Ok(found),
        }
    }

    /// Sends `signal` to every process in it. SIGKILL uses `cgroup.kill` where the kernel has it, which nothing escapes;
    /// otherwise a process forked meanwhile may be missed, and the caller asks again until none is left.
    ///
    /// # Errors
    /// The members cannot be listed.
    pub fn kill_all(&self, signal: Signal) -> Result<(), CgroupProcessError> {
        if let (CgroupLayout::Unified(root), Signal::KILL) = (self.layout, signal)
            && files::write(&root.join(&self.directory).join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        for process in self.processes()? {
            // It may have ended since it was listed.
            let _ = kill_process(process, signal);
        }
        Ok(())
    }

    /// Lifts the group's share and quota of the processors, for members that were killed. Dying takes a little processor
    /// time too, and with the least share next to busy neighbours it takes a killed process many seconds to get it.
    ///
    /// Limits of groups above stay. What cannot be written stays as it is.
    pub fn hurry(&self) {
        let Some(directory) = self.controller_directory("cpu") else {
            return;
        };
        let settings = match self.layout {
            CgroupLayout::Unified(_) => [("cpu.weight", "10000"), ("cpu.max", "max")],
            CgroupLayout::Legacy { .. } => [("cpu.shares", "262144"), ("cpu.cfs_quota_us", "-1")],
        };
        for (file, value) in settings {
            let _ = files::write(&directory.join(file), value);
        }
    }

    /// Stops all processes from running.
    ///
    /// # Errors
    /// No freezer, or it did not take effect in time.
    pub fn freeze(&self) -> Result<(), CgroupProcessError> {
        self.set_frozen("freeze", "1", "FROZEN")
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupProcessError> {
        self.set_frozen("thaw", "0", "THAWED")
    }

    /// Whether it is frozen by a request of its own. Without a freezer nothing is.
    pub fn is_frozen(&self) -> bool {
        let Some(directory) = self.controller_directory("freezer") else {
            return false;
        };
        match self.layout {
            CgroupLayout::Unified(_) => {
                files::read(&directory.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
            }
            CgroupLayout::Legacy { .. } => files::read(&directory.join("freezer.state"))
                .is_ok_and(|text| text.trim() != "THAWED"),
        }
    }

    fn join_directories(&self, directories: Vec<PathBuf>) -> Result<(), CgroupProcessError> {
        let file = if self.layout.is_unified() {
            "cgroup.procs"
        } else {
            "tasks"
        };
        for directory in directories {
            files::write(&directory.join(file), "0").map_err(|source| CgroupProcessError {
                operation: "join",
                directory,
                source,
            })?;
        }
        Ok(())
    }

    fn set_frozen(
        &self,
        operation: &'static str,
        unified: &str,
        legacy: &str,
    ) -> Result<(), CgroupProcessError> {
        let directory = self.controller_directory("freezer").unwrap_or_default();
        let fail = |source| CgroupProcessError {
            operation,
            directory: directory.clone(),
            source,
        };
        if directory.as_os_str().is_empty() {
            return Err(fail(io::ErrorKind::Unsupported.into()));
        }
        let done = || match self.layout {
            CgroupLayout::Unified(_) => files::read(&directory.join("cgroup.events"))
                .map(|text| files::keyed(&text, "frozen") == unified.parse().ok()),
            CgroupLayout::Legacy { .. } => {
                files::read(&directory.join("freezer.state")).map(|text| text.trim() == legacy)
            }
        };
        // Version 1 may stay FREEZING until asked again, when a process forks at the wrong moment.
        for attempt in 0..200 {
            match self.layout {
                CgroupLayout::Unified(_) if attempt == 0 => {
                    files::write(&directory.join("cgroup.freeze"), unified)
                }
                CgroupLayout::Unified(_) => Ok(()),
                CgroupLayout::Legacy { .. } => {
                    files::write(&directory.join("freezer.state"), legacy)
                }
            }
            .map_err(fail)?;
            if done().map_err(fail)? {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Err(fail(io::ErrorKind::TimedOut.into()))
    }
}

fn collect(directory: &Path, found: &mut Vec<Pid>) -> io::Result<()> {
    let text = match files::read(&directory.join("cgroup.procs")) {
        // Gone meanwhile, or a threaded cgroup whose members are listed by its parent.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::OPNOTSUPP.raw_os_error() || code == rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            return Ok(());
        }
        other => other?,
    };
    found.extend(
        text.lines()
            .filter_map(|line| line.parse().ok())
            .filter_map(Pid::from_raw),
    );
    for child in children(directory)? {
        collect(&child, found)?;
    }
    Ok(())
}

/// The cgroups directly below.
pub(crate) fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
