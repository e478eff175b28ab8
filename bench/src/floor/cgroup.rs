//! Cgroups in every hierarchy the machine has, as directories.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The version 1 hierarchies, or the version 2 one.
#[derive(Debug)]
pub(crate) struct Hierarchies {
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

/// The cgroups of one pod.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// `tasks` is written by the child itself: the kernel then waits for no grace period.
    pub(super) v1: Vec<PathBuf>,
    v2: Option<(PathBuf, File)>,
}

impl Hierarchies {
    /// Makes a cgroup of this name at the top of each.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        let mut found = Self {
            v1: Vec::new(),
            v2: None,
        };
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let path = PathBuf::from(before.split(' ').nth(4).unwrap_or_default()).join(name);
            if after.starts_with("cgroup ") {
                found.v1.push(path);
            } else if after.starts_with("cgroup2 ") {
                found.v2 = Some(path);
            }
        }
        // A version 2 mount beside version 1 has no controllers that a pod would use.
        if !found.v1.is_empty() {
            found.v2 = None;
        }
        for path in found.v1.iter().chain(&found.v2) {
            make(path)?;
        }
        if let Some(path) = &found.v2 {
            // What the parent hands down is what the machine is set up for: a controller may be missing.
            let _ = std::fs::write(path.join("cgroup.subtree_control"), "+cpu +memory +pids");
        }
        Ok(found)
    }

    pub(super) fn pod(&self, name: &str) -> Result<Cgroups> {
        let v1: Vec<PathBuf> = self.v1.iter().map(|path| path.join(name)).collect();
        for path in &v1 {
            make(path)?;
            limit(path, "memory.limit_in_bytes", "268435456")?;
            limit(path, "cpu.shares", "512")?;
            limit(path, "pids.max", "1024")?;
        }
        let mut v2 = None;
        if let Some(path) = self.v2.as_ref().map(|path| path.join(name)) {
            make(&path)?;
            limit(&path, "memory.max", "268435456")?;
            limit(&path, "cpu.weight", "20")?;
            limit(&path, "pids.max", "1024")?;
            let directory =
                File::open(&path).with_context(|| format!("open `{}`", path.display()))?;
            v2 = Some((path, directory));
        }
        Ok(Cgroups { v1, v2 })
    }

    pub(crate) fn remove_top(&self) -> Result<()> {
        self.v1
            .iter()
            .chain(&self.v2)
            .try_for_each(|path| remove(path))
    }
}

impl Cgroups {
    /// Where the child is born on version 2.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(|(_, directory)| directory.as_fd())
    }

    pub(super) fn remove(&self) -> Result<()> {
        let v2 = self.v2.as_ref().map(|(path, _)| path);
        self.v1.iter().chain(v2).try_for_each(|path| remove(path))
    }
}

fn make(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("create `{}`", path.display()))
        }
        _ => Ok(()),
    }?;
    // A cpuset starts empty, and nothing may join it so.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let (true, Some(parent)) = (
            path.join("cpuset.sched_load_balance").exists(),
            path.parent(),
        ) {
            let inherited = std::fs::read_to_string(parent.join(file))
                .with_context(|| format!("read `{file}`"))?;
            std::fs::write(path.join(file), inherited.trim())
                .with_context(|| format!("write `{file}`"))?;
        }
    }
    Ok(())
}

fn limit(path: &Path, file: &str, value: &str) -> Result<()> {
    let file = path.join(file);
    match std::fs::write(&file, value) {
        // Not this hierarchy's controller.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        written => written.with_context(|| format!("write `{}`", file.display())),
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_dir(path).with_context(|| format!("remove `{}`", path.display()))
}
