//! Out-of-memory kills in a cgroup.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use crate::{Cgroup, CgroupLayout, CgroupPath, files};

/// Tells when the kernel killed for lack of memory. Poll [`OomWatch::as_fd`] for [`OomWatch::interest`], then ask
/// [`Cgroup::oom_kills`].
#[derive(Debug)]
pub struct OomWatch {
    descriptor: OwnedFd,
    interest: PollFlags,
    legacy: Option<Legacy>,
}

/// What version 1 needs besides. The notifications last as long as the watched files are open.
#[derive(Debug)]
struct Legacy {
    _watched: File,
    removal: Option<Removal>,
}

/// The removal of a cgroup by somebody else.
#[derive(Debug)]
struct Removal {
    /// Ready as soon as the cgroup has been removed, of which the watch itself is told after it.
    event: OwnedFd,
    _watched: File,
}

/// A use of memory that no cgroup has, bytes.
const NEVER: u64 = i64::MAX as u64 & !0xfff;

impl OomWatch {
    /// What to poll for.
    pub fn interest(&self) -> PollFlags {
        self.interest
    }

    /// Clears the readiness; to be called after each wake-up.
    ///
    /// Returns how often the kernel told of something since the last time, as far as it counts that (version 1): of lack
    /// of memory, and once of the cgroup's removal.
    pub fn acknowledge(&self) -> u64 {
        if self.legacy.is_some() {
            return count(&self.descriptor);
        }
        // A read from the start re-arms the notification. That a cgroup is gone is fine.
        let mut buffer = [0; 512];
        let _ = rustix::io::pread(&self.descriptor, &mut buffer, 0);
        0
    }

    /// Whether the kernel has told of the cgroup's removal, and says so once. `None` where that is not watched: on
    /// version 2, and for a cgroup that is not systemd's, which nobody but us removes.
    pub fn was_told_of_removal(&self) -> Option<bool> {
        let removal = self.legacy.as_ref()?.removal.as_ref()?;
        Some(count(&removal.event) > 0)
    }
}

/// Takes what an eventfd has counted.
fn count(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(event, &mut count) {
        Ok(8) => u64::from_ne_bytes(count),
        // It is not ready.
        _ => 0,
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

    /// The same of the whole cgroup that this one is in, which outlives it. `None` on version 1, where a cgroup counts
    /// only for itself.
    pub fn oom_kills_around(&self) -> Option<u64> {
        let file = self.layout.is_unified().then(|| self.oom_file())??;
        // A parent's `memory.events` counts for all below it, also for what is gone.
        let around = file.parent()?.parent()?.join(file.file_name()?);
        files::keyed(&files::read(&around).ok()?, "oom_kill")
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
                legacy: None,
            });
        }
        let control = path.with_file_name("cgroup.event_control");
        let register = |file: &File, argument: &str| -> io::Result<OwnedFd> {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let (event_number, file) = (event.as_raw_fd(), file.as_raw_fd());
            files::write(&control, &format!("{event_number} {file}{argument}"))?;
            Ok(event)
        };
        let descriptor = register(&watched, "")?;
        let removal = match &self.path {
            // The kernel tells what was registered last first. Its registration waits for an RCU grace period, some
            // milliseconds.
            CgroupPath::Scope { .. } => {
                let usage = File::open(path.with_file_name("memory.usage_in_bytes"))?;
                Some(Removal {
                    event: register(&usage, &format!(" {NEVER}"))?,
                    _watched: usage,
                })
            }
            CgroupPath::Directory(_) | CgroupPath::Slice(_) => None,
        };
        Ok(OomWatch {
            descriptor,
            interest: PollFlags::IN,
            legacy: Some(Legacy {
                _watched: watched,
                removal,
            }),
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
