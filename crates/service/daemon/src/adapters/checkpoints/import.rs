//! Bringing a checkpoint into a new container.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crioxide_cgroups::{CgroupLayout, CgroupPath, Driver};
use crioxide_criu_images::{FileOwner, Host, Wanted, fit};
use crioxide_engine::ports::{
    CheckpointOrigin, CheckpointSource, CheckpointTarget, PortError, PortResult,
};
use crioxide_files::InRoot;
use crioxide_node_records::go_time;
use crioxide_store::{Store, apply_changes};
use oci_spec::runtime::Spec;
use rustix::fs::OFlags;
use serde_json::Value;

use super::source::{Member, Opened};
use super::{IMAGES, archive::LOG, failed};

const DOCUMENT_LIMIT: u64 = 16 << 20;
/// So much of an old log is taken over.
const LOG_LIMIT: u64 = 1 << 30;

/// Places that every container has something mounted at, which come with the new one.
const EVERYWHERE: &[&str] = &[
    "/proc",
    "/dev",
    "/dev/pts",
    "/dev/mqueue",
    "/sys",
    "/sys/fs/cgroup",
    "/dev/shm",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/etc/passwd",
    "/etc/group",
    "/run/secrets",
    "/run/.containerenv",
];

/// Reads whose checkpoint it is.
pub(super) fn describe(
    store: &Arc<Store>,
    source: &CheckpointSource,
) -> PortResult<CheckpointOrigin> {
    let opened = Opened::open(store, source)?;
    let config = document(&opened, "config.dump")?;
    let spec = document(&opened, "spec.dump")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mounts = spec["mounts"].as_array().into_iter().flatten();
    let places = mounts.filter_map(|mount| mount["destination"].as_str());
    let places = places.filter(|place| !EVERYWHERE.contains(place));
    Ok(CheckpointOrigin {
        image_id: text(&config["rootfsImageRef"]),
        image_name: text(&config["rootfsImageName"]),
        taken: go_time::parse(&text(&config["checkpointedTime"])).unwrap_or_default(),
        mounted: places.map(PathBuf::from).collect(),
    })
}

fn document(opened: &Opened, name: &str) -> PortResult<Value> {
    let bytes = opened.read(name, DOCUMENT_LIMIT)?;
    let bytes = bytes.ok_or_else(|| format!("failed to read {name:?}: it is not there"))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("failed to read {name:?}: {error}").into())
}

/// Brings everything in. `work` is left in part on failure.
pub(super) fn import(
    store: &Arc<Store>,
    source: &CheckpointSource,
    target: &CheckpointTarget,
    work: &Path,
    driver: Driver,
) -> PortResult<()> {
    let opened = Opened::open(store, source)?;
    let images = work.join(IMAGES);
    super::remove(work)?;
    for path in [work, &images] {
        let made = DirBuilder::new().mode(0o700).create(path);
        made.map_err(failed("cannot make directory", path))?;
    }
    for name in opened.images()? {
        let member = opened.member(&format!("{IMAGES}/{name}"))?;
        let member = member.ok_or_else(|| format!("{name} of the checkpoint is gone"))?;
        copy(member, &images.join(name), u64::MAX)?;
    }
    check(&images, target, driver)?;
    let deleted: Vec<String> = match opened.read("deleted.files", DOCUMENT_LIMIT)? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| format!("failed to read \"deleted.files\": {error}"))?,
        None => Vec::new(),
    };
    let changes = opened.member("rootfs-diff.tar")?;
    match changes {
        Some(changes) => apply_changes(&target.root, changes.content, &deleted),
        None => apply_changes(&target.root, std::io::empty(), &deleted),
    }
    .map_err(|error| -> PortError {
        let reason = crioxide_engine::chain(&error);
        format!("failed to restore the changes of the root: {reason}").into()
    })?;
    if let Some(log) = opened.member(LOG)? {
        copy(log, &target.log_path, LOG_LIMIT)?;
    }
    Ok(())
}

fn copy(mut member: Member, target: &Path, limit: u64) -> PortResult<()> {
    let flags = OFlags::NOFOLLOW.bits();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags.cast_signed())
        .open(target)
        .map_err(failed("cannot create", target))?;
    let length = member.length.min(limit);
    let copied = std::io::copy(&mut member.content.by_ref().take(length), &mut file)
        .map_err(failed("cannot write", target))?;
    match copied == length {
        true => Ok(()),
        false => Err("the checkpoint ends early".into()),
    }
}

/// Makes criu's images those of the new container, or refuses them.
fn check(images: &Path, target: &CheckpointTarget, driver: Driver) -> PortResult<()> {
    let cgroup = cgroup_of(&target.spec, driver)?;
    let hierarchies = match CgroupLayout::host()? {
        CgroupLayout::Unified(_) => Vec::new(),
        CgroupLayout::Legacy { hierarchies, .. } => {
            let all = hierarchies.iter();
            all.map(|hierarchy| hierarchy.controllers.clone()).collect()
        }
    };
    let root = InRoot::open(&target.root)?;
    let exists = |path: &Path| {
        // What the kernel shows is the same everywhere.
        let kernel = path.starts_with("/proc") || path.starts_with("/sys");
        match kernel {
            true => path.symlink_metadata().is_ok(),
            false => root
                .symlink_stat(path.strip_prefix("/").unwrap_or(path))
                .is_ok(),
        }
    };
    let flags = |source: &Path| {
        let stat = rustix::fs::statvfs(source);
        // The bits of read-only, nosuid, nodev and noexec are those of mount(2).
        let flags = stat.map_or(0, |stat| stat.f_flag.bits()) & 0xf;
        u32::try_from(flags).unwrap_or_default()
    };
    let owner = |path: &Path| owner_of(&root, &target.spec, path);
    let wanted = Wanted {
        spec: &target.spec,
        cgroup: &cgroup,
        hierarchies: &hierarchies,
        host: Host {
            exists: &exists,
            flags: &flags,
            owner: &owner,
        },
    };
    fit(images, &wanted).map_err(|error| crioxide_engine::chain(&error).into())
}

/// Whose a file is that the container finds at `path`: in its root, or in what is bound there from the node.
fn owner_of(root: &InRoot, spec: &Spec, path: &Path) -> Option<FileOwner> {
    let mounts = spec.mounts().iter().flatten();
    let above = mounts.filter(|mount| path.starts_with(mount.destination()));
    let above = above.max_by_key(|mount| mount.destination().components().count());
    let found = match above {
        None => root.stat(path.strip_prefix("/").ok()?),
        Some(mount) if mount.typ().as_deref() == Some("bind") => {
            let source = mount.source().as_ref()?;
            let inner = path.strip_prefix(mount.destination()).ok()?;
            match inner.as_os_str().is_empty() {
                true => return Some(owner(&rustix::fs::stat(source).ok()?)),
                false => InRoot::open(source.as_path()).ok()?.stat(inner),
            }
        }
        // The container's own, which is restored.
        Some(_) => return None,
    };
    Some(owner(&found.ok()?))
}

fn owner(stat: &rustix::fs::Stat) -> FileOwner {
    FileOwner {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

/// From the root of the hierarchy.
fn cgroup_of(spec: &Spec, driver: Driver) -> PortResult<String> {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let path = path.ok_or("the container has no cgroup")?.to_string_lossy();
    Ok(format!(
        "/{}",
        CgroupPath::parse(&path, driver)?.directory()
    ))
}
