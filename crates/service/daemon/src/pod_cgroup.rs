//! The cgroup parent of a pod: the kubelet's, or made and removed by us where nobody else did.

use std::{io::ErrorKind, path::{Path, PathBuf}};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_engine::ports::PortError;
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_to_string_limited};
use crioxide_names::PodId;

/// File in a pod's run directory that names the cgroup directories made for it, outermost first.
const OWNED: &str = "cgroup-parent";
/// File in a pod's run directory that names its monitor's cgroup.
const MONITOR: &str = "monitor-cgroup";

/// Notes which directories of the pod's cgroup parent do not exist yet: containers make them, and they go with the pod.
pub(crate) fn prepare(driver: Driver, run: &Path, parent: &str) -> Result<(), PortError> {
    if parent.is_empty() || driver == Driver::Systemd {
        // systemd removes slices by itself when they are empty.
        return Ok(());
    }
    let group = Cgroup::at(CgroupLayout::host()?, CgroupPath::parse(parent, driver)?);
    let directories = group.directories();
    // Hierarchies differ in what a container manager left in them; one answer for all keeps the note simple.
    if directories.iter().all(|directory| directory.exists()) {
        return Ok(());
    }
    let mut missing = Vec::new();
    for directory in &directories {
        let mut below = Vec::new();
        let mut current = directory.clone();
        while !current.exists() {
            below.push(current.clone());
            let Some(up) = current.parent() else { break };
            current = up.to_owned();
        }
        missing.extend(below.into_iter().rev());
    }
    let list: Vec<_> = missing.iter().map(|path| path.to_string_lossy()).collect();
    atomic_write(&run.join(OWNED), list.join("\n").as_bytes(), AtomicOptions { mode: 0o600, sync: Sync::None })?;
    Ok(())
}

/// Where a pod's monitor belongs, as `monitor_cgroup` says: nowhere in particular, the pod's cgroup, or a slice.
pub(crate) fn monitor_path(setting: &str, driver: Driver, parent: &str, pod: &PodId) -> Option<String> {
    match (driver, setting) {
        (Driver::Cgroupfs, "pod") if !parent.is_empty() => {
            Some(format!("{}/crio-conmon-{pod}", parent.trim_end_matches('/')))
        }
        (Driver::Cgroupfs, _) => None,
        (Driver::Systemd, "pod") if !parent.is_empty() => {
            let slice = parent.trim_end_matches('/').rsplit('/').next().unwrap_or(parent);
            Some(format!("{slice}:crio-conmon:{pod}"))
        }
        // Outside of our own unit, which takes its processes along when it is restarted.
        (Driver::Systemd, slice) => {
            let slice = if slice.ends_with(".slice") { slice } else { "system.slice" };
            Some(format!("{slice}:crio-conmon:{pod}"))
        }
    }
}

/// Notes the monitor's cgroup, so that it goes with the pod.
pub(crate) fn note_monitor(run: &Path, path: &str) -> Result<(), PortError> {
    let options = AtomicOptions { mode: 0o600, sync: Sync::None };
    Ok(atomic_write(&run.join(MONITOR), path.as_bytes(), options)?)
}

/// Removes the noted directories as far as they are empty: another pod may live in one of them.
pub(crate) fn release(driver: Driver, run: &Path) -> Result<(), PortError> {
    match read_to_string_limited(run.join(MONITOR), 4096) {
        Ok(path) => Cgroup::at(CgroupLayout::host()?, CgroupPath::parse(&path, driver)?).remove()?,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let note = run.join(OWNED);
    let list = match read_to_string_limited(&note, 1 << 20) {
        Ok(list) => list,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for directory in list.lines().rev().map(PathBuf::from) {
        match std::fs::remove_dir(&directory) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => {}
            Err(error) => return Err(format!("cannot remove cgroup {}: {error}", directory.display()).into()),
        }
    }
    Ok(())
}
