//! The terminal of a process: a pty of the container's own devpts, its other end handed to the caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crioxide_files::InRoot;
use crioxide_sys::messages::send_packet;
use oci_spec::runtime::Process;
use rustix::fs::{FileType, Mode, OFlags, fchmod, fchown, fstat, fstatfs, makedev, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::rootfs::mounts::attach::{mount_point, place};
use crate::setup_error::{SetupError, at, step};

const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both ends of a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

impl Console {
    /// Opens a new pty. `devpts` is the file system just mounted for the container; without it the one found at `/dev/pts`
    /// in the root is taken, once it is known to be one.
    pub(crate) fn open(devpts: Option<BorrowedFd<'_>>, root: &InRoot) -> Result<Self, SetupError> {
        let found;
        let devpts = match devpts {
            Some(devpts) => devpts,
            None => {
                found = root.open_path("/dev/pts")?;
                found.as_fd()
            }
        };
        let magic = fstatfs(devpts).map_err(step("look at /dev/pts"))?.f_type as u64;
        if magic != DEVPTS_MAGIC {
            return Err(SetupError::Unexpected {
                path: "/dev/pts".into(),
                found: "not a devpts file system",
            });
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let master = openat(devpts, "ptmx", flags, Mode::empty()).map_err(step("open a pty"))?;
        let status = fstat(&master).map_err(step("look at the pty"))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice
            || status.st_rdev != makedev(5, 2)
        {
            return Err(SetupError::Unexpected {
                path: "/dev/pts/ptmx".into(),
                found: "not the pty multiplexer",
            });
        }
        unlockpt(&master).map_err(step("unlock the pty"))?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave =
            ioctl_tiocgptpeer(&master, flags).map_err(step("open the other end of the pty"))?;
        Ok(Self { master, slave })
    }

    /// Sizes it as the configuration says and lets the process's user own it.
    pub(crate) fn configure(&self, process: &Process) -> Result<(), SetupError> {
        if let Some(size) = process.console_size() {
            let size = Winsize {
                ws_row: u16::try_from(size.height()).unwrap_or(u16::MAX),
                ws_col: u16::try_from(size.width()).unwrap_or(u16::MAX),
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&self.master, size).map_err(step("set the size of the terminal"))?;
        }
        let uid = rustix::fs::Uid::from_raw(process.user().uid());
        // The group is the devpts mount's choice.
        fchown(&self.slave, Some(uid), None).map_err(step("set the owner of the terminal"))?;
        fchmod(&self.slave, Mode::RUSR | Mode::WUSR | Mode::WGRP)
            .map_err(step("set the mode of the terminal"))
    }

    /// Shows it as `/dev/console` too.
    pub(crate) fn mount_as_console(&self, root: &InRoot) -> Result<(), SetupError> {
        let destination = Path::new("/dev/console");
        let target = mount_point(root, destination, FileType::CharacterDevice)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree =
            open_tree(&self.slave, "", flags).map_err(at("bind the terminal at", destination))?;
        place(tree.as_fd(), target.as_fd(), destination)
    }

    /// Sends the master end over the console socket, as the reference runtimes do: its name and the descriptor.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), SetupError> {
        send_packet(socket, b"/dev/ptmx", &[self.master.as_fd()]).map_err(step("send the terminal"))
    }

    /// Makes it the controlling terminal and the stdio of the calling process, which leads a session.
    pub(crate) fn take_as_stdio(self) -> Result<(), SetupError> {
        rustix::process::ioctl_tiocsctty(&self.slave)
            .map_err(step("take the controlling terminal"))?;
        for number in 0..3 {
            crioxide_sys::descriptors::place_at(&self.slave, number)
                .map_err(step("use the terminal as stdio"))?;
        }
        Ok(())
    }
}
