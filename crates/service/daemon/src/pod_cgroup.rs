//! The cgroup parent of a pod: the kubelet's, or made and removed by us where nobody else did.

use std::{
    collections::{HashMap, HashSet},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_engine::ports::PortError;
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_to_string_limited, write_new};
use crioxide_monitor_client::MonitorCgroup;

/// File in a pod's run directory that names the cgroup directories made for it, outermost first.
const OWNED: &str = "cgroup-parent";
/// File in a pod's run directory that names its monitor's cgroup, if it has one of its own.
const MONITOR: &str = "monitor-cgroup";
/// File in a container's run directory that names its conmon's cgroup.
const CONMON: &str = "conmon-cgroup";
/// Largest note that is read back, bytes.
const NOTE_MAX: u64 = 1 << 20;

/// The cgroup parents that we made, each directory with the run directories of the pods that live in it.
///
/// Pods share parents, so a directory goes with the last of its pods and not while another one is about to use it.
/// Each pod's own note lists all of its directories that are ours: after a restart [`Self::claim`] reads it back.
#[derive(Debug, Default)]
pub(crate) struct OwnParents(Mutex<HashMap<PathBuf, HashSet<PathBuf>>>);

impl OwnParents {
    /// Makes a pod's cgroup parent where nobody has, and notes the pod as a user of what is ours of it.
    pub(crate) fn claim(&self, driver: Driver, run: &Path, parent: &str) -> Result<(), PortError> {
        if parent.is_empty() || driver == Driver::Systemd {
            // systemd removes slices by itself when they are empty.
            return Ok(());
        }
        let mut users = self.0.lock().expect("no holder of this lock panics");
        let mut claimed = noted(run)?;
        if claimed.is_empty() {
            let layout = CgroupLayout::host()?;
            let path = CgroupPath::parse(parent, driver)?;
            let levels = path.directory().split('/').count();
            let directories = Cgroup::at(layout, path.clone()).directories();
            let missing = directories.iter().any(|directory| !directory.exists());
            let ours = |level: &&Path| users.contains_key(*level) || missing && !level.exists();
            for directory in &directories {
                let ours: Vec<_> = directory
                    .ancestors()
                    .take(levels)
                    .filter(ours)
                    .map(Path::to_owned)
                    .collect();
                claimed.extend(ours.into_iter().rev());
            }
            if claimed.is_empty() {
                return Ok(());
            }
            // Before the directories, so that a crash in between leaves none that nobody knows of.
            let list: Vec<_> = claimed.iter().map(|path| path.to_string_lossy()).collect();
            let options = AtomicOptions {
                mode: 0o600,
                sync: Sync::None,
            };
            atomic_write(run.join(OWNED), list.join("\n").as_bytes(), options)?;
            if missing {
                Cgroup::create(layout, path, None, None)?;
            }
        }
        for directory in claimed {
            users.entry(directory).or_default().insert(run.to_owned());
        }
        Ok(())
    }

    /// Removes the pod's monitor's cgroup, and the directories that no other pod uses, as far as they are empty.
    pub(crate) fn release(&self, driver: Driver, run: &Path) -> Result<(), PortError> {
        match read_to_string_limited(run.join(MONITOR), 4096) {
            Ok(path) => {
                Cgroup::at(CgroupLayout::host()?, CgroupPath::parse(&path, driver)?).remove()?
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let mut users = self.0.lock().expect("no holder of this lock panics");
        for directory in noted(run)?.into_iter().rev() {
            if let Some(pods) = users.get_mut(&directory) {
                pods.remove(run);
                if !pods.is_empty() {
                    continue;
                }
            }
            match std::fs::remove_dir(&directory) {
                Ok(()) => {}
                // Somebody else, who is not a pod of ours, has moved in.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound
                            | ErrorKind::DirectoryNotEmpty
                            | ErrorKind::ResourceBusy
                    ) => {}
                Err(error) => {
                    return Err(
                        format!("cannot remove cgroup {}: {error}", directory.display()).into(),
                    );
                }
            }
            users.remove(&directory);
        }
        Ok(())
    }
}

/// The directories that a pod's note lists, outermost first.
fn noted(run: &Path) -> Result<Vec<PathBuf>, PortError> {
    match read_to_string_limited(run.join(OWNED), NOTE_MAX) {
        Ok(list) => Ok(list.lines().map(PathBuf::from).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Where our own monitor of a pod belongs, as `monitor_cgroup` says.
///
/// On version 1, which lets processes live beside groups, the pod's cgroup itself does: a group of the monitor's own would
/// have to be made, and removed, in every hierarchy.
pub(crate) fn monitor_cgroup(
    setting: &str,
    driver: Driver,
    parent: &str,
    name: &str,
) -> Result<Option<MonitorCgroup>, PortError> {
    let systemd = driver == Driver::Systemd;
    let existing = !systemd && !CgroupLayout::host()?.is_unified();
    let path = monitor_path(setting, driver, parent, name);
    Ok(path.map(|own| MonitorCgroup {
        path: if existing { parent.to_owned() } else { own },
        systemd,
        existing,
    }))
}

/// Where a conmon belongs, named after its pod or container, as `monitor_cgroup` says: nowhere in particular, below the pod's
/// cgroup, or in a slice.
pub(crate) fn monitor_path(
    setting: &str,
    driver: Driver,
    parent: &str,
    name: &str,
) -> Option<String> {
    match (driver, setting) {
        (Driver::Cgroupfs, "pod") if !parent.is_empty() => Some(format!(
            "{}/crio-conmon-{name}",
            parent.trim_end_matches('/')
        )),
        (Driver::Cgroupfs, _) => None,
        (Driver::Systemd, "pod") if !parent.is_empty() => {
            Some(format!("{}:crio-conmon:{name}", slice_of(parent)))
        }
        // Outside of our own unit, which takes its processes along when it is restarted.
        (Driver::Systemd, slice) => {
            let slice = if slice.ends_with(".slice") {
                slice
            } else {
                "system.slice"
            };
            Some(format!("{slice}:crio-conmon:{name}"))
        }
    }
}

/// Removes the cgroup that CRI-O makes for a pod without infra process, a plain directory with either driver. We make none.
pub(crate) fn release_sandbox(driver: Driver, run: &Path, parent: &str) -> Result<(), PortError> {
    // The run directory is `<pod>/userdata`.
    let pod = run.parent().and_then(Path::file_name);
    let (Some(pod), false) = (pod, parent.is_empty()) else {
        return Ok(());
    };
    let parent = match driver {
        Driver::Cgroupfs => parent.trim_end_matches('/').to_owned(),
        Driver::Systemd => CgroupPath::parse(slice_of(parent), driver)?.to_string(),
    };
    let path = format!("{}/crio-{}", parent.trim_end_matches('/'), pod.display());
    let path = CgroupPath::parse(&path, Driver::Cgroupfs)?;
    Ok(Cgroup::at(CgroupLayout::host()?, path).remove()?)
}

/// The slice that a pod's parent names, by its path or by its name alone.
fn slice_of(parent: &str) -> &str {
    let parent = parent.trim_end_matches('/');
    parent.rsplit('/').next().unwrap_or(parent)
}

/// Removes a container's cgroup, and whatever runs in it.
pub(crate) fn release_container(driver: Driver, path: &str) -> Result<(), PortError> {
    if path.is_empty() {
        return Ok(());
    }
    let path = CgroupPath::parse(path, driver)?;
    Ok(Cgroup::at(CgroupLayout::host()?, path).remove()?)
}

/// As [`release_container`], after a runtime that has done so as a rule: asks nobody where there is nothing.
pub(crate) fn release_remains(driver: Driver, path: &str) -> Result<(), PortError> {
    if path.is_empty() {
        return Ok(());
    }
    let cgroup = Cgroup::at(CgroupLayout::host()?, CgroupPath::parse(path, driver)?);
    if cgroup.exists() {
        cgroup.remove()?;
    }
    Ok(())
}

/// Notes the monitor's cgroup, so that it goes with the pod.
pub(crate) fn note_monitor(run: &Path, path: &str) -> Result<(), PortError> {
    note(&run.join(MONITOR), path)
}

/// Notes the cgroup of a container's conmon, so that it goes with the container.
pub(crate) fn note_conmon(run: &Path, path: &str) -> Result<(), PortError> {
    note(&run.join(CONMON), path)
}

/// Removes the cgroup of a container's conmon: the noted one, or where CRI-O would have put it.
pub(crate) fn release_conmon(
    driver: Driver,
    run: &Path,
    usual: Option<String>,
) -> Result<(), PortError> {
    let noted = match read_to_string_limited(run.join(CONMON), 4096) {
        Ok(path) => Some(path),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = noted.or(usual) {
        Cgroup::at(CgroupLayout::host()?, CgroupPath::parse(&path, driver)?).remove()?;
    }
    Ok(())
}

fn note(file: &Path, path: &str) -> Result<(), PortError> {
    Ok(write_new(file, path.as_bytes(), 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup parent of two levels that nobody else uses, and the directories that stand for its topmost one.
    fn parent(name: &str) -> Option<(String, Vec<PathBuf>)> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let top = format!("crioxidetest-{name}-{}", std::process::id());
        let path = CgroupPath::parse(&format!("/{top}"), Driver::Cgroupfs).unwrap();
        let directories = Cgroup::at(CgroupLayout::host().unwrap(), path).directories();
        Some((format!("/{top}/below"), directories))
    }

    fn all(directories: &[PathBuf], there: bool) -> bool {
        directories
            .iter()
            .all(|directory| directory.exists() == there)
    }

    #[test]
    fn what_cri_o_made_for_a_pod_goes_with_it_under_systemd_too() {
        if parent("sandbox").is_none() {
            return;
        }
        let layout = CgroupLayout::host().unwrap();
        let top = format!("crioxidetest{}", std::process::id());
        let at = |path: &str| {
            let path = CgroupPath::parse(path, Driver::Cgroupfs).unwrap();
            Cgroup::at(layout, path).directories()
        };
        let slice = format!("/{top}.slice/{top}-pods.slice");
        let base = tempfile::tempdir().unwrap();
        let run = base.path().join("0a1b/userdata");
        for named in [format!("{top}-pods.slice"), slice.clone()] {
            let path = CgroupPath::parse(&format!("{slice}/crio-0a1b"), Driver::Cgroupfs).unwrap();
            Cgroup::create(layout, path, None, None).unwrap();
            release_sandbox(Driver::Systemd, &run, &named).unwrap();
            assert!(all(&at(&format!("{slice}/crio-0a1b")), false), "{named}");
        }
        for path in [slice, format!("/{top}.slice")] {
            for directory in at(&path) {
                std::fs::remove_dir(directory).unwrap();
            }
        }
    }

    #[test]
    fn a_parent_goes_with_the_last_pod_in_it() {
        let Some((parent, top)) = parent("last") else {
            return;
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let parents = OwnParents::default();
        parents
            .claim(Driver::Cgroupfs, one.path(), &parent)
            .unwrap();
        assert!(all(&top, true));
        parents
            .claim(Driver::Cgroupfs, two.path(), &parent)
            .unwrap();
        // Neither has a container yet: only the note keeps the directories.
        parents.release(Driver::Cgroupfs, one.path()).unwrap();
        assert!(top.iter().all(|directory| directory.join("below").exists()));
        // Another daemon, told of the pod by its note, ends it.
        let parents = OwnParents::default();
        parents
            .claim(Driver::Cgroupfs, two.path(), &parent)
            .unwrap();
        parents.release(Driver::Cgroupfs, two.path()).unwrap();
        assert!(all(&top, false));
    }

    #[test]
    fn the_cgroup_that_cri_o_makes_for_a_pod_goes_too() {
        let Some((parent, top)) = parent("sandbox") else {
            return;
        };
        let run = Path::new("/run/storage/overlay-containers/abc/userdata");
        for directory in &top {
            std::fs::create_dir_all(directory.join("below/crio-abc")).unwrap();
        }
        release_sandbox(Driver::Cgroupfs, run, "").unwrap();
        assert!(top.iter().all(|dir| dir.join("below/crio-abc").exists()));
        release_sandbox(Driver::Cgroupfs, run, &parent).unwrap();
        assert!(top.iter().all(|dir| !dir.join("below/crio-abc").exists()));
        for directory in &top {
            std::fs::remove_dir(directory.join("below")).unwrap();
            std::fs::remove_dir(directory).unwrap();
        }
    }

    #[test]
    fn what_a_runtime_left_of_a_cgroup_goes() {
        let Some((path, top)) = parent("remains") else {
            return;
        };
        release_remains(Driver::Cgroupfs, &path).unwrap();
        for directory in &top {
            std::fs::create_dir_all(directory.join("below")).unwrap();
        }
        let mut late = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let procs = top[0].join("below/cgroup.procs");
        std::fs::write(procs, late.id().to_string()).unwrap();
        release_remains(Driver::Cgroupfs, &path).unwrap();
        assert!(
            top.iter()
                .all(|directory| !directory.join("below").exists())
        );
        assert!(!late.wait().unwrap().success(), "it was killed");
        release_remains(Driver::Cgroupfs, "").unwrap();
        for directory in &top {
            std::fs::remove_dir(directory).unwrap();
        }
    }

    #[test]
    fn a_parent_of_somebody_else_stays() {
        let Some((parent, top)) = parent("foreign") else {
            return;
        };
        for directory in &top {
            std::fs::create_dir(directory).unwrap();
        }
        let run = tempfile::tempdir().unwrap();
        let parents = OwnParents::default();
        parents
            .claim(Driver::Cgroupfs, run.path(), &parent)
            .unwrap();
        parents.release(Driver::Cgroupfs, run.path()).unwrap();
        assert!(all(&top, true));
        assert!(
            top.iter()
                .all(|directory| !directory.join("below").exists())
        );
        for directory in &top {
            std::fs::remove_dir(directory).unwrap();
        }
    }
}
