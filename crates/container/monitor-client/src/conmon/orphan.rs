//! What a killed runtime leaves: a container's first process that waits for its start, with the runtime's standard error
//! in its hands. conmon reads that to its end before it says that there is no container, and would read for ever.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::find;

/// How often conmon is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// How often in a row it must be found without a runtime: when one has ended well, conmon answers at once.
const LOOKS: u32 = 5;

/// Ends such processes of the container that conmon is about to make. Goes on for ever.
pub(super) async fn end_orphans(bundle: &Path, id: &str) -> std::convert::Infallible {
    let mut before = Vec::new();
    let mut looks = 0;
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = find(bundle, id).map_or_else(Vec::new, |conmon| orphans(conmon.pid));
        looks = match !now.is_empty() && now == before {
            true => looks + 1,
            false => 0,
        };
        before = now;
        if looks < LOOKS {
            continue;
        }
        for pid in &before {
            let opened =
                Pid::from_raw(*pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            // Its number may have been given away before it was opened.
            let still = find(bundle, id).map_or_else(Vec::new, |conmon| orphans(conmon.pid));
            if let Some(process) = opened.filter(|_| still.contains(pid)) {
                // It may have ended by itself.
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        looks = 0;
    }
}

/// The children of a conmon if all of them are in a container; a runtime is where conmon is.
fn orphans(conmon: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{conmon}/task/{conmon}/children"));
    let children = children.unwrap_or_default();
    let children: Vec<i32> = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    let Some(own) = mounts_of(conmon) else {
        return Vec::new();
    };
    let contained = |child: &i32| mounts_of(*child).is_some_and(|mounts| mounts != own);
    match children.iter().all(contained) {
        true => children,
        false => Vec::new(),
    }
}

fn mounts_of(pid: i32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}
