//! Giving a cgroup back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::processes::children;
use crate::{Cgroup, SystemdError, files, systemd};

/// Steps of the teardown that failed; the others were done.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove cgroup `{path}`: {}", describe(.directories, .unit))]
pub struct RemoveCgroupError {
    /// The cgroup.
    pub path: crate::CgroupPath,
    /// Directories still there, each with the reason.
    pub directories: Vec<(PathBuf, io::Error)>,
    /// The unit systemd did not stop.
    pub unit: Option<Box<SystemdError>>,
}

fn describe(directories: &[(PathBuf, io::Error)], unit: &Option<Box<SystemdError>>) -> String {
    let mut parts: Vec<String> = directories
        .iter()
        .map(|(path, error)| format!("`{}`: {error}", path.display()))
        .collect();
    parts.extend(unit.as_ref().map(ToString::to_string));
    parts.join("; ")
}

/// About one second in all, in growing steps: exiting processes leave a cgroup a little after they are killed.
const PAUSES_MS: [u64; 12] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 200, 250, 300];

impl Cgroup {
    /// Kills what is in it and removes it with everything below. A cgroup that is not there is no error. The calling
    /// process survives: if it is inside, because it made a systemd scope around itself, it moves to the root first.
    ///
    /// # Errors
    /// All steps run; what failed is listed.
    pub fn remove(&self) -> Result<(), RemoveCgroupError> {
        // Usually it is empty by now, and nobody has to be looked for.
        let mut failed = self.remove_directories();
        if !failed.is_empty() {
            self.leave();
            for pause in PAUSES_MS {
                if pause > 0 {
                    std::thread::sleep(Duration::from_millis(pause));
                }
                if self.processes().is_ok_and(|members| !members.is_empty()) {
                    // A frozen process on version 1 is not killed before it is thawed.
                    if self.is_frozen() {
                        let _ = self.thaw();
                    }
                    let _ = self.kill_all(Signal::KILL);
                }
                failed = self.remove_directories();
                if failed.is_empty() {
                    break;
                }
            }
        }
        let unit = systemd::stop_unit(&self.path).map_err(Box::new).err();
        if failed.is_empty() && unit.is_none() {
            return Ok(());
        }
        let directories = failed
            .into_iter()
            .map(|(error, path)| (path, error))
            .collect();
        Err(RemoveCgroupError {
            path: self.path.clone(),
            directories,
            unit,
        })
    }
}

impl Cgroup {
    /// Removes what is empty; what stays, with the reason. On a host with both versions also the group that runc and
    /// CRI-O make in the version 2 tree.
    fn remove_directories(&self) -> Vec<(io::Error, PathBuf)> {
        let beside = self.layout.beside().map(|root| root.join(&self.directory));
        self.directories()
            .into_iter()
            .chain(beside)
            .filter_map(|path| Some((remove_tree(&path).err()?, path)))
            .collect()
    }

    /// Takes the calling process to the root wherever it is inside. If that fails, so does the removal, visibly.
    fn leave(&self) {
        let own = std::process::id().to_string();
        for root in self.layout.roots().into_iter().chain(self.layout.beside()) {
            let members = files::read(&root.join(&self.directory).join("cgroup.procs"));
            if members.is_ok_and(|members| members.lines().any(|pid| pid == own)) {
                let _ = files::write(&root.join("cgroup.procs"), "0");
            }
        }
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    for child in children(directory)? {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
