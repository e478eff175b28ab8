//! Subvolumes and quotas of btrfs: the ioctls of `linux/btrfs.h`.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::ioctl::{self, Direction};

/// BTRFS_IOCTL_MAGIC.
const MAGIC: u32 = 0x94;
/// BTRFS_FIRST_FREE_OBJECTID: the inode number of the root of every subvolume, and of nothing else.
pub const ROOT_INODE: u64 = 256;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolumeArguments {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, without the parts that are not used here.
#[repr(C)]
struct VolumeArgumentsV2 {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaArguments {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct LimitArguments {
    /// 0: the one of the subvolume that the descriptor is in.
    group: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// BTRFS_QUOTA_CTL_ENABLE.
const ENABLE: u64 = 1;
/// BTRFS_QGROUP_LIMIT_MAX_RFER.
const LIMIT_REFERENCED: u64 = 1;

/// Makes the empty subvolume `name` in `directory`, and waits until it is on the device.
///
/// # Errors
/// `InvalidInput` for a name that is too long, `AlreadyExists`, and `ENOTTY` where the file system is another one.
pub fn create_subvolume(directory: impl AsFd, name: &CStr) -> io::Result<()> {
    change(directory.as_fd(), 14, name)
}

/// Makes `name` in `directory` a writable snapshot of the subvolume that `source` is the root of, and waits until it is on
/// the device.
///
/// # Errors
/// As [`create_subvolume`]; `EXDEV` when the source is on another file system, `EINVAL` when it is not the root of a
/// subvolume.
pub fn snapshot(directory: impl AsFd, name: &CStr, source: impl AsFd) -> io::Result<()> {
    let mut arguments = VolumeArgumentsV2 {
        fd: i64::from(source.as_fd().as_raw_fd()),
        transaction: 0,
        flags: 0,
        unused: [0; 4],
        name: padded(name)?,
    };
    let request = request::<VolumeArgumentsV2>(Direction::Write, 23);
    // SAFETY: BTRFS_IOC_SNAP_CREATE_V2 takes the structure that is passed, whose layout and size are the kernel's and whose
    // name ends with a NUL; both descriptors are borrowed for the whole call.
    unsafe { ioctl::call(directory.as_fd(), request, &raw mut arguments) }
}

/// Removes the subvolume `name` of `directory` with all that is in it. The kernel frees its space in the background.
///
/// # Errors
/// `ENOTEMPTY` when another subvolume is in it; `EINVAL` when it is not a subvolume.
pub fn destroy_subvolume(directory: impl AsFd, name: &CStr) -> io::Result<()> {
    change(directory.as_fd(), 15, name)
}

/// Turns accounting of space by subvolume on for the whole file system; nothing happens where it is on already.
///
/// # Errors
/// The error of the ioctl.
pub fn enable_quotas(directory: impl AsFd) -> io::Result<()> {
    let mut arguments = QuotaArguments {
        command: ENABLE,
        status: 0,
    };
    let request = request::<QuotaArguments>(Direction::ReadWrite, 40);
    // SAFETY: BTRFS_IOC_QUOTA_CTL takes the structure that is passed, with the kernel's layout and size.
    unsafe { ioctl::call(directory.as_fd(), request, &raw mut arguments) }
}

/// Limits what the subvolume that `directory` is in refers to, what it shares with others included, to `bytes`.
///
/// # Errors
/// `ENOTCONN` where quotas are off, else the error of the ioctl.
pub fn limit_subvolume(directory: impl AsFd, bytes: u64) -> io::Result<()> {
    let mut arguments = LimitArguments {
        group: 0,
        flags: LIMIT_REFERENCED,
        max_referenced: bytes,
        max_exclusive: 0,
        reserved_referenced: 0,
        reserved_exclusive: 0,
    };
    let request = request::<LimitArguments>(Direction::Read, 43);
    // SAFETY: BTRFS_IOC_QGROUP_LIMIT takes the structure that is passed, with the kernel's layout and size.
    unsafe { ioctl::call(directory.as_fd(), request, &raw mut arguments) }
}

fn change(directory: BorrowedFd<'_>, number: u32, name: &CStr) -> io::Result<()> {
    let mut arguments = VolumeArguments {
        fd: 0,
        name: padded(name)?,
    };
    let request = request::<VolumeArguments>(Direction::Write, number);
    // SAFETY: BTRFS_IOC_SUBVOL_CREATE and BTRFS_IOC_SNAP_DESTROY, the two numbers this is called with, take the structure
    // that is passed, whose layout and size are the kernel's and whose name ends with a NUL.
    unsafe { ioctl::call(directory, request, &raw mut arguments) }
}

fn padded<const LENGTH: usize>(name: &CStr) -> io::Result<[u8; LENGTH]> {
    let bytes = name.to_bytes_with_nul();
    let mut padded = [0; LENGTH];
    let target = padded.get_mut(..bytes.len());
    target
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(bytes);
    Ok(padded)
}

fn request<T>(direction: Direction, number: u32) -> u32 {
    ioctl::request(direction, MAGIC, number, size_of::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a C program gets from `linux/btrfs.h`.
    #[test]
    fn requests_are_the_kernels() {
        assert_eq!(
            request::<VolumeArguments>(Direction::Write, 14),
            0x5000_940e
        );
        assert_eq!(
            request::<VolumeArguments>(Direction::Write, 15),
            0x5000_940f
        );
        assert_eq!(
            request::<VolumeArgumentsV2>(Direction::Write, 23),
            0x5000_9417
        );
        assert_eq!(
            request::<QuotaArguments>(Direction::ReadWrite, 40),
            0xc010_9428
        );
        assert_eq!(request::<LimitArguments>(Direction::Read, 43), 0x8030_942b);
    }

    #[test]
    fn other_file_systems_are_an_error() {
        let proc = std::fs::File::open("/proc").unwrap();
        let error = create_subvolume(&proc, c"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
