//! Processes: the daemon's own roles and everything in the cgroups of its pods.

use std::path::Path;

use super::Scope;

/// Processes of a node, without the daemon and its spawner, which are there from start to end.
pub(super) fn list(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let everywhere = matches!(scope, Scope::WholeHost(_));
    let name = scope.place().cgroup_name();
    let program = crate::requirements::daemon()
        .ok()
        .and_then(|path| path.canonicalize().ok());
    all().into_iter().filter_map(move |pid| {
        let folder = Path::new("/proc").join(pid.to_string());
        let executable = std::fs::read_link(folder.join("exe")).ok();
        let ours = everywhere && executable.is_some() && executable == program;
        let line = || format!("{pid} {}", command_line(&folder));
        (ours || in_cgroup(&folder, &name)).then(line)
    })
}

/// Process ids of everything a node started: by cgroup, or by an open file or working directory below its base.
pub(crate) fn processes_of(cgroup: &str, base: &Path) -> Vec<u32> {
    let own = std::process::id();
    all()
        .into_iter()
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let folder = Path::new("/proc").join(pid.to_string());
            in_cgroup(&folder, cgroup) || uses(&folder, base)
        })
        .collect()
}

fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn in_cgroup(folder: &Path, name: &str) -> bool {
    std::fs::read_to_string(folder.join("cgroup")).is_ok_and(|text| text.contains(name))
}

fn uses(folder: &Path, base: &Path) -> bool {
    let descriptors = std::fs::read_dir(folder.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    descriptors
        .map(|entry| entry.path())
        .chain([folder.join("cwd"), folder.join("root")])
        .filter_map(|link| std::fs::read_link(link).ok())
        .any(|target| target.starts_with(base))
        || command_line(folder).contains(&*base.to_string_lossy())
}

fn command_line(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim()
        .to_owned()
}
