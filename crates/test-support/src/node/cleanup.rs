//! Taking a node off the host whatever state it is in: a failed test must not fail the next.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::place;
use crate::snapshot::{cgroups_of, mounts_below, processes_of};
use crate::waiting::scaled;

/// How long processes get to die, and cgroups to be empty after them.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What a node that nobody owns any more may have on the host.
pub(super) struct Remains<'a> {
    pub(super) number: u16,
    pub(super) base: &'a Path,
}

impl Remains<'_> {
    /// Every step is tried; what fails shows in the next test's comparison, not here.
    pub(super) fn take_away(&self) {
        let cgroup = place::cgroup_name(self.number);
        within_patience(|| {
            thaw(&cgroup);
            let processes = processes_of(&cgroup, self.base);
            for process in &processes {
                if let Some(pid) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            processes.is_empty()
        });
        unmount_all(self.base);
        let bridge = place::bridge(self.number);
        if Path::new("/sys/class/net").join(&bridge).exists() {
            let _ = Command::new("ip")
                .args(["link", "delete", &bridge])
                .stderr(Stdio::null())
                .status();
        }
        within_patience(|| {
            let cgroups = cgroups_of(&cgroup);
            for cgroup in &cgroups {
                let _ = std::fs::remove_dir(cgroup);
            }
            cgroups.is_empty()
        });
    }
}

/// Takes away what nodes of tests that were killed left below `parent`: those of whose number nobody has the lock.
pub(super) fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(place::number_of_directory);
        let Some(number) = number else { continue };
        // Whoever made the directory had the lock before, so that a directory in use is never taken for a dead one.
        let Ok(Some(_claim)) = place::claim(number) else {
            continue;
        };
        let base = entry.path();
        let remains = Remains {
            number,
            base: &base,
        };
        remains.take_away();
        let _ = std::fs::remove_dir_all(&base);
    }
}

/// Repeats `step` until it is done or time is up.
fn within_patience(mut step: impl FnMut() -> bool) {
    let started = Instant::now();
    while !step() && started.elapsed() < scaled(PATIENCE) {
        std::thread::sleep(PAUSE);
    }
}

/// On cgroup v1 frozen processes do not die.
fn thaw(cgroup: &str) {
    for path in cgroups_of(cgroup) {
        for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = path.join(file);
            if file.exists() {
                let _ = std::fs::write(file, thawed);
            }
        }
    }
}

fn unmount_all(base: &Path) {
    let mut mounts: Vec<PathBuf> = mounts_below(base);
    // The newest, deepest first.
    mounts.reverse();
    for mount in mounts {
        let _ = unmount(&mount, UnmountFlags::DETACH);
    }
}
