//! Taking a node off the host whatever state it is in: a failed test must not fail the next.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::Place;
use crate::snapshot::{cgroups_of, mounts_below, processes_of};

const ROUNDS: usize = 50;

/// Every step is tried; what fails shows in the next test's comparison, not here.
pub(super) fn take_away(place: &Place) {
    for _ in 0..ROUNDS {
        let processes = processes_of(place);
        if processes.is_empty() {
            break;
        }
        for process in processes {
            if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    unmount_all(place.base());
    let bridge = place.bridge();
    if Path::new("/sys/class/net").join(&bridge).exists() {
        let _ = Command::new("ip")
            .args(["link", "delete", &bridge])
            .stderr(Stdio::null())
            .status();
    }
    for cgroup in cgroups_of(place) {
        let _ = std::fs::remove_dir(cgroup);
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
