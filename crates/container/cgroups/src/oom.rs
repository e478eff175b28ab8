//! Out-of-memory kills in a cgroup.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use crate::{Cgroup, CgroupLayout, files};

/// Tells when the kernel killed for lack of memory. Poll [`OomWatch::as_fd`] for [`OomWatch::interest`], then ask
/// [`Cgroup::oom_kills`].
#[derive(Debug)]
pub struct OomWatch {
    descriptor: OwnedFd,
    interest: PollFlags,
    /// Version 1 keeps the notification as long as the watched file is open.
    _watched: Option<File>,
}

impl OomWatch {
    /// What to poll for.
    pub fn interest(&self) -> PollFlags {
        self.interest
    }

    /// Clears the readiness; to be called after each wake-up.
    pub fn acknowledge(&self) {
        let mut buffer = [0; 512];
        // Version 1: resets the counter of the eventfd. Version 2: a read from the start re-arms the notification.
        // Nothing to read, or a cgroup that is gone, are both fine.
        if self.interest.contains(PollFlags::PRI) {
            let _ = rustix::io::pread(&self.descriptor, &mut buffer, 0);
        } else {
            let _ = rustix::io::read(&self.descriptor, &mut buffer[..8]);
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Cgroup {
    /// Processes of this cgroup that the kernel killed for lack of memory since it was made.
    ///
    /// To be asked before the cgroup is removed. Unknown (no memory controller, cgroup gone) gives `None`.
    pub fn oom_kills(&self) -> Option<u64> {
        files::keyed(&files::read(&self.oom_file()?).ok()?, "oom_kill")
    }

    /// Starts watching.
    ///
    /// # Errors
    /// No memory controller, or the cgroup is gone.
    pub fn watch_oom(&self) -> io::Result<OomWatch> {
        let path = self.oom_file().ok_or(io::ErrorKind::Unsupported)?;
        let watched = File::open(&path)?;
        if self.layout.is_unified() {
            return Ok(OomWatch {
                descriptor: watched.into(),
                interest: PollFlags::PRI,
                _watched: None,
            });
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let request = format!("{} {}", event.as_raw_fd(), watched.as_raw_fd());
        files::write(&path.with_file_name("cgroup.event_control"), &request)?;
        Ok(OomWatch {
            descriptor: event,
            interest: PollFlags::IN,
            _watched: Some(watched),
        })
    }

    fn oom_file(&self) -> Option<PathBuf> {
        let name = match self.layout {
            CgroupLayout::Unified(_) => "memory.events",
            CgroupLayout::Legacy { .. } => "memory.oom_control",
        };
        Some(self.controller_directory("memory")?.join(name))
    }
}
