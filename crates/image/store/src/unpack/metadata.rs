//! Owner, mode, times and extended attributes of what was unpacked, by descriptor wherever there is one.

use crate::tar::{Entry, Time};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What the process gives to files by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Defaults {
    pub(super) fn of_process() -> Self {
        let umask = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("Umask:"))?;
                u32::from_str_radix(line.trim(), 8).ok()
            });
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            // Unknown means that every mode has to be set once more.
            umask: umask.unwrap_or(0o777),
        }
    }

    /// Whether something made in a directory (`sets_group`: with the set-group-ID bit) has got another owner than wanted.
    pub(super) fn owner_differs(self, entry: &Entry, sets_group: bool) -> bool {
        sets_group || entry.uid != self.uid || entry.gid != self.gid
    }

    /// Whether something made with the entry's permission bits has got another mode than wanted.
    pub(super) fn mode_differs(self, mode: u32) -> bool {
        mode & 0o7000 != 0 || mode & self.umask != 0
    }
}

/// Sets owner, then mode (a change of owner clears its special bits), then attributes (it also clears capabilities).
pub(super) fn apply(
    file: impl AsFd,
    entry: &Entry,
    defaults: Defaults,
    sets_group: bool,
) -> Result<(), (&'static str, io::Error)> {
    let chown = defaults.owner_differs(entry, sets_group);
    if chown {
        let (uid, gid) = owner(entry);
        rustix::fs::fchown(&file, uid, gid).map_err(|error| ("set the owner", error.into()))?;
    }
    if defaults.mode_differs(entry.mode) || sets_group {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
            .map_err(|error| ("set the mode", error.into()))?;
    }
    for (name, value) in wanted_xattrs(entry) {
        let set = rustix::fs::fsetxattr(&file, OsStr::from_bytes(name), value, XattrFlags::empty());
        accept_unsupported(set, name)?;
    }
    Ok(())
}

/// As [`apply`] for what cannot be opened: symlinks, devices, pipes.
pub(super) fn apply_by_name(
    directory: impl AsFd,
    name: &OsStr,
    entry: &Entry,
    (defaults, sets_group): (Defaults, bool),
    has_mode: bool,
) -> Result<(), (&'static str, io::Error)> {
    if defaults.owner_differs(entry, sets_group) {
        let (uid, gid) = owner(entry);
        rustix::fs::chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| ("set the owner", error.into()))?;
    }
    if has_mode && defaults.mode_differs(entry.mode) {
        rustix::fs::chmodat(
            &directory,
            name,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )
        .map_err(|error| ("set the mode", error.into()))?;
    }
    for (key, value) in wanted_xattrs(entry) {
        // There is no call by directory descriptor; the link in procfs leads to exactly that directory.
        let path =
            PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())).join(name);
        let set = rustix::fs::lsetxattr(&path, OsStr::from_bytes(key), value, XattrFlags::empty());
        accept_unsupported(set, key)?;
    }
    Ok(())
}

/// Access and modification time; the former is never before the latter.
pub(super) fn times(entry: &Entry) -> Timestamps {
    let accessed = entry.accessed.unwrap_or(entry.modified).max(entry.modified);
    Timestamps {
        last_access: timespec(accessed),
        last_modification: timespec(entry.modified),
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

/// All attributes but those that steer overlayfs itself: an image must not redirect its own layers.
fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let steers =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let pairs = entry
        .xattrs
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()));
    pairs.filter(move |(name, _)| !steers(name))
}

fn accept_unsupported(
    set: Result<(), Errno>,
    name: &[u8],
) -> Result<(), (&'static str, io::Error)> {
    match set {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => {
            tracing::warn!(attribute = %name.escape_ascii(), "the file system cannot keep an extended attribute of the image");
            Ok(())
        }
        Err(error) => Err(("set an extended attribute", error.into())),
    }
}
