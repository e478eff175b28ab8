//! Becoming the user of the process: ids, groups, capabilities, home directory.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crioxide_confinement::capabilities::{ProcessCapabilities, bounding_set};
use oci_spec::runtime::{Process, User};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::thread::{
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::setup_error::{SetupError, step};

/// Largest part of `/etc/passwd` that is looked through. It is the image's and may be anything.
const PASSWD_LIMIT: u64 = 1 << 20;

/// The capability sets to apply, without what the host itself lacks, and what that left out.
pub(crate) fn capabilities(process: &Process) -> Option<(ProcessCapabilities, Vec<String>)> {
    let mut sets = ProcessCapabilities::parse(process.capabilities().as_ref()?);
    let missing = sets.limit_to(bounding_set());
    Some((sets, missing.names()))
}

/// Sets all user and group ids, keeping capabilities for the steps that follow.
pub(crate) fn become_user(user: &User) -> Result<(), SetupError> {
    // By raw system calls on this thread: the C library's versions would signal other threads and wait for them.
    let additional: Vec<Gid> = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    set_thread_groups(&additional).map_err(step("set the additional groups"))?;
    let gid = Gid::from_raw(user.gid());
    set_thread_res_gid(gid, gid, gid).map_err(step("set the group"))?;
    set_keep_capabilities(true).map_err(step("keep capabilities"))?;
    let uid = Uid::from_raw(user.uid());
    set_thread_res_uid(uid, uid, uid).map_err(step("set the user"))?;
    set_keep_capabilities(false).map_err(step("stop keeping capabilities"))?;
    let mask = user.umask().unwrap_or(0o022) & 0o777;
    rustix::process::umask(Mode::from_raw_mode(mask));
    Ok(())
}

/// Lets the process's user own its stdio, as long as that is not a device shared with others.
pub(crate) fn own_stdio(user: &User) {
    let null = rustix::fs::makedev(1, 3);
    let uid = Uid::from_raw(user.uid());
    for fd in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let Ok(status) = rustix::fs::fstat(fd) else {
            continue;
        };
        if status.st_rdev != null && status.st_uid != user.uid() {
            // Refused for sockets, read-only files and unmapped ids, which then stay as they are.
            let _ = rustix::fs::fchown(fd, Some(uid), None);
        }
    }
}

/// Lets standard streams that lead to the host's null device lead to the container's own instead, so that the process
/// holds on to no file system but its own. Without a real null device there, they stay as they are.
pub(crate) fn use_own_null() {
    let is_null = |fd: BorrowedFd<'_>| {
        rustix::fs::fstat(fd).is_ok_and(|status| {
            FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
                && status.st_rdev == rustix::fs::makedev(1, 3)
        })
    };
    // Looked at before it is opened for use: opening an unknown device may do things.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::open("/dev/null", flags, Mode::empty());
    if !found.is_ok_and(|found| is_null(found.as_fd())) {
        return;
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(null) = rustix::fs::open("/dev/null", flags, Mode::empty()) else {
        return;
    };
    // A stream that is not replaced works as before.
    if is_null(rustix::stdio::stdin()) {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    if is_null(rustix::stdio::stdout()) {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    if is_null(rustix::stdio::stderr()) {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Adds `HOME` from the container's `/etc/passwd` if the environment has none.
pub(crate) fn add_home(environment: &mut Vec<String>, uid: u32) {
    if environment.iter().any(|pair| {
        pair.strip_prefix("HOME=")
            .is_some_and(|home| !home.is_empty())
    }) {
        return;
    }
    environment.retain(|pair| !pair.starts_with("HOME="));
    let home = home_of(Path::new("/etc/passwd"), uid).unwrap_or_else(|| "/".to_owned());
    environment.push(format!("HOME={home}"));
}

fn home_of(passwd: &Path, uid: u32) -> Option<String> {
    // Not blocking: the image may have put a pipe there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(passwd, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    for line in BufReader::new(file.take(PASSWD_LIMIT)).split(b'\n') {
        let line = line.ok()?;
        let Ok(line) = std::str::from_utf8(&line) else {
            continue;
        };
        let mut fields = line.split(':');
        let found = fields.nth(2).is_some_and(|field| field.parse() == Ok(uid));
        let home = fields.nth(2);
        if found {
            return home
                .filter(|home| home.starts_with('/') && !home.contains('\0'))
                .map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_found_by_uid() {
        let directory = tempfile::tempdir().unwrap();
        let passwd = directory.path().join("passwd");
        std::fs::write(
            &passwd,
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\nbad:x:34:34::rel:\n",
        )
        .unwrap();
        assert_eq!(home_of(&passwd, 33).as_deref(), Some("/srv"));
        assert_eq!(home_of(&passwd, 34), None);
        assert_eq!(home_of(&passwd, 35), None);
        assert_eq!(home_of(directory.path(), 33), None);
    }

    #[test]
    fn given_home_stays() {
        let mut environment = vec!["HOME=/x".to_owned()];
        add_home(&mut environment, 0);
        assert_eq!(environment, ["HOME=/x"]);
        let mut environment = vec!["HOME=".to_owned()];
        add_home(&mut environment, u32::MAX - 1);
        assert_eq!(environment, ["HOME=/"]);
    }
}
