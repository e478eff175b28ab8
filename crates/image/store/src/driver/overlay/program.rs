//! Mounting by a program in place of the kernel, such as fuse-overlayfs: `mount_program`.
//!
//! The program is given what the kernel would be, stays for as long as the mount and maps ids itself, those of the writable
//! layer included.

use super::mount::{OverlayMount, VfsFlags};
use crate::IdRange;
use crate::mounts::MountIds;
use crioxide_files::{AtomicOptions, AtomicWriteError, Sync, atomic_write};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// In a home: whether its layers were mounted by a program, for other tools.
const FLAG: &str = ".has-mount-program";
/// Bytes of the program's complaint that are repeated.
const COMPLAINT: usize = 1024;

/// Notes for other tools that layers of `home` are mounted by a program.
pub(super) fn note(home: &Path) -> Result<(), AtomicWriteError> {
    let options = AtomicOptions {
        mode: 0o600,
        sync: Sync::None,
    };
    atomic_write(home.join(FLAG), b"true", options)
}

/// Runs the program, which mounts before it goes to the background.
pub(super) fn mount(
    program: &Path,
    mount: &OverlayMount,
    ids: Option<&MountIds>,
) -> io::Result<()> {
    let output = Command::new(program)
        .arg("-o")
        .arg(options(mount, ids)?)
        .arg(mount.home.join(&mount.target))
        .current_dir(&mount.home)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = output.stderr.get(..COMPLAINT).unwrap_or(&output.stderr);
    Err(io::Error::other(format!(
        "{}: {}: {}",
        program.display(),
        output.status,
        String::from_utf8_lossy(complaint).trim()
    )))
}

fn options(mount: &OverlayMount, ids: Option<&MountIds>) -> io::Result<OsString> {
    let mut options = mount.data(&mount.home);
    let VfsFlags {
        read_only,
        no_dev,
        no_suid,
        no_exec,
        no_atime,
    } = mount.flags;
    let mut add = |text: &str| {
        options.push(b',');
        options.extend_from_slice(text.as_bytes());
    };
    for (set, flag) in [
        (read_only, "ro"),
        (no_dev, "nodev"),
        (no_suid, "nosuid"),
        (no_exec, "noexec"),
        (no_atime, "noatime"),
    ] {
        if set {
            add(flag);
        }
    }
    if let Some(ids) = ids {
        for (key, ranges) in [("uidmapping", &ids.uids), ("gidmapping", &ids.gids)] {
            let ranges: Vec<_> = contiguous(ranges)?
                .iter()
                .map(|range| format!("{}:{}:{}", range.container_id, range.host_id, range.size))
                .collect();
            add(&format!("{key}={}", ranges.join(":")));
        }
    }
    Ok(OsString::from_vec(options))
}

/// Programs map only ids that follow on each other.
fn contiguous(ranges: &[IdRange]) -> io::Result<&[IdRange]> {
    let follows = |pair: &[IdRange]| {
        let end = |start: u32| start.checked_add(pair[0].size);
        end(pair[0].container_id) == Some(pair[1].container_id)
            && end(pair[0].host_id) == Some(pair[1].host_id)
    };
    match ranges.windows(2).all(follows) {
        true => Ok(ranges),
        false => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "mount_program maps no ids with gaps between them",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(container_id: u32, host_id: u32, size: u32) -> IdRange {
        IdRange {
            container_id,
            host_id,
            size,
        }
    }

    #[test]
    fn programs_are_told_what_the_kernel_would_be() {
        let mount = OverlayMount {
            home: "/o".into(),
            lowers: vec!["l/A".into(), "l/B,".into()],
            writable: Some(("x/diff".into(), "x/work".into())),
            target: "x/merged".into(),
            options: vec![("volatile".into(), None)],
            flags: VfsFlags {
                no_dev: true,
                ..Default::default()
            },
        };
        let mut ids = MountIds {
            namespace: "".into(),
            uids: vec![range(0, 1000, 10), range(10, 1010, 5)],
            gids: vec![range(0, 7, 1)],
        };
        assert_eq!(
            options(&mount, Some(&ids)).unwrap(),
            "lowerdir=/o/l/A:/o/l/B\\,,upperdir=/o/x/diff,workdir=/o/x/work,volatile,nodev,\
             uidmapping=0:1000:10:10:1010:5,gidmapping=0:7:1"
        );
        ids.gids.push(range(1, 9, 1));
        let error = options(&mount, Some(&ids)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
