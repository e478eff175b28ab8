//! Room on the file system: a layer of a few bytes can unpack to any size, and must not take what others need.

use super::UnpackError;
use rustix::fs::{StatVfs, fstatvfs};
use std::io;
use std::os::fd::AsFd;

/// How much may be written between two looks (bytes).
const STEP: u64 = 64 << 20;
/// What any file costs beside its content (bytes).
const FILE: u64 = 4 << 10;
/// At most this much of a file system is left to others (bytes); of a small one a hundredth.
const MAX_RESERVE: u64 = 256 << 20;

/// Counts what is written and looks at the file system now and then.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes that may be written before the next look.
    left: u64,
}

impl Room {
    /// One more file, for which `name` is asked when it is one too many.
    pub(super) fn file(
        &mut self,
        directory: impl AsFd,
        name: impl FnOnce() -> String,
    ) -> Result<(), UnpackError> {
        self.take(FILE, directory, name)
    }

    /// Some more bytes.
    pub(super) fn take(
        &mut self,
        bytes: u64,
        directory: impl AsFd,
        name: impl FnOnce() -> String,
    ) -> Result<(), UnpackError> {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return Ok(());
        }
        self.left = STEP;
        let status = fstatvfs(directory).map_err(|error| UnpackError::Entry {
            name: name_of_root(),
            action: "look for room",
            source: io::Error::from(error),
        })?;
        let (free, reserve) = free_and_reserve(&status);
        match free < reserve {
            true => Err(UnpackError::NoRoom {
                name: name(),
                free,
                reserve,
            }),
            false => Ok(()),
        }
    }
}

fn name_of_root() -> String {
    ".".to_owned()
}

/// Bytes that are free for everybody, and those that are to stay free.
fn free_and_reserve(status: &StatVfs) -> (u64, u64) {
    let total = status.f_blocks.saturating_mul(status.f_frsize);
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    (free, (total / 100).min(MAX_RESERVE))
}
