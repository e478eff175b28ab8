//! A procfs of our own that is mounted nowhere: what is written there cannot be redirected by anything the container
//! or another process put over `/proc`.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::setup_error::{SetupError, at, step};

/// A detached procfs of the calling process's pid namespace.
#[derive(Debug)]
pub(crate) struct PrivateProc(OwnedFd);

impl PrivateProc {
    pub(crate) fn open() -> Result<Self, SetupError> {
        let make = || -> rustix::io::Result<OwnedFd> {
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            fsmount(
                &context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::empty(),
            )
        };
        make().map(Self).map_err(step("make a private procfs"))
    }

    /// Sets a sysctl, named with dots or slashes.
    pub(crate) fn set_sysctl(&self, name: &str, value: &str) -> Result<(), SetupError> {
        let path = Path::new("sys").join(sysctl_path(name));
        self.write(&path, value.as_bytes())
            .map_err(at("set sysctl", name))
    }

    /// Sets the security label that the next execve takes.
    pub(crate) fn set_exec_label(&self, label: &str) -> Result<(), SetupError> {
        self.write_own("attr/exec", label.as_bytes())
            .map_err(at("set the process label", label))
    }

    /// Sets the label of keys made by this process.
    pub(crate) fn set_key_label(&self, label: &str) -> Result<(), SetupError> {
        self.write_own("attr/keycreate", label.as_bytes())
            .map_err(at("set the key label", label))
    }

    /// Sets the AppArmor profile that the next execve takes.
    pub(crate) fn set_apparmor_profile(&self, profile: &str) -> Result<(), SetupError> {
        let command = format!("exec {profile}");
        let own = self.write_own("attr/apparmor/exec", command.as_bytes());
        // Kernels before 5.8 have only the directory that all security modules share.
        let result = match own {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write_own("attr/exec", command.as_bytes())
            }
            other => other,
        };
        result.map_err(at("set the AppArmor profile", profile))
    }

    fn write_own(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let own = Path::new(&rustix::process::getpid().as_raw_nonzero().to_string()).join(file);
        self.write(&own, bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = openat2(
            &self.0,
            path,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?;
        std::fs::File::from(file).write_all(bytes)
    }
}

/// `net.ipv4.ip_forward` or `net/ipv4/ip_forward`; whichever separator comes first separates, the other is part of a
/// name (an interface called `eth0.100`).
pub(crate) fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_are_understood() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.100/forwarding"),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/100.forwarding"),
            "net/ipv4/conf/eth0.100/forwarding"
        );
    }
}
