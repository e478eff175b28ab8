//! Project quotas: the project of a directory (`FS_IOC_FSSETXATTR`), and limits and usage of projects (`quotactl(2)`).
//!
//! xfs and ext4 are told alike, in the structures of `linux/dqblk_xfs.h`.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::ioctl::{self, Direction};
use crate::syscall::checked;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    kind: i8,
    fields: u16,
    id: u32,
    hard_blocks: u64,
    soft_blocks: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    blocks: u64,
    inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 4],
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    padding: i16,
    more_padding: [u64; 1],
}

/// `struct fs_quota_stat`.
#[repr(C)]
#[derive(Default)]
struct QuotaState {
    version: i8,
    flags: u16,
    padding: i8,
    users: QuotaFile,
    groups: QuotaFile,
    in_core: u32,
    time_limits: [i32; 3],
    warning_limits: [u16; 2],
}

/// `struct fs_qfilestat`.
#[repr(C)]
#[derive(Default)]
struct QuotaFile {
    inode: u64,
    blocks: u64,
    extents: u32,
}

const MAGIC: u32 = b'X' as u32;
/// FS_XFLAG_PROJINHERIT.
const INHERIT: u32 = 0x200;
/// FS_DQUOT_VERSION and FS_QSTAT_VERSION.
const VERSION: i8 = 1;
/// FS_PROJ_QUOTA.
const PROJECT: i8 = 2;
/// FS_DQ_ISOFT, FS_DQ_IHARD, FS_DQ_BSOFT and FS_DQ_BHARD.
const LIMITS: u16 = 0b1111;
/// FS_QUOTA_PDQ_ENFD.
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// PRJQUOTA.
const PROJECT_TYPE: u32 = 2;
/// Q_XGETQUOTA, Q_XSETQLIM and Q_XGETQSTAT.
const GET: u32 = command(3);
const SET: u32 = command(4);
const STATE: u32 = command(5);
/// Bytes of a basic block.
const BLOCK: u64 = 512;

/// How the file system is named to the kernel.
#[derive(Debug, Clone, Copy)]
pub enum FileSystem<'a> {
    /// By anything in it; since Linux 5.14.
    Of(BorrowedFd<'a>),
    /// By a node of its block device.
    On(&'a CStr),
}

/// What a project may take. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectLimits {
    /// Bytes on the device, in steps of 512.
    pub bytes: u64,
    /// Files, directories and all else.
    pub inodes: u64,
}

/// What a project has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectUsage {
    /// Bytes on the device.
    pub bytes: u64,
    /// Files, directories and all else.
    pub inodes: u64,
    /// What it may take.
    pub limits: ProjectLimits,
}

/// The project that a file or directory belongs to; 0 is none.
///
/// # Errors
/// `ENOTTY` where the file system has no projects.
pub fn project_of(file: impl AsFd) -> io::Result<u32> {
    Ok(attributes(file.as_fd())?.project)
}

/// Makes an empty directory, and all that comes to be in it, part of `project`.
///
/// # Errors
/// As [`project_of`].
pub fn set_project(directory: impl AsFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory.as_fd())?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    set_attributes(directory.as_fd(), attributes)
}

/// Lets what comes to be in a directory belong to no project, or to the one it had: only then may it be moved in.
///
/// # Errors
/// As [`project_of`].
pub fn stop_inheritance(directory: impl AsFd) -> io::Result<()> {
    let mut attributes = attributes(directory.as_fd())?;
    if attributes.flags & INHERIT == 0 {
        return Ok(());
    }
    attributes.flags &= !INHERIT;
    set_attributes(directory.as_fd(), attributes)
}

fn set_attributes(directory: BorrowedFd<'_>, mut attributes: FileAttributes) -> io::Result<()> {
    let request = ioctl::request(Direction::Write, MAGIC, 32, size_of::<FileAttributes>());
    // SAFETY: FS_IOC_FSSETXATTR takes the structure that is passed, with the kernel's layout and size.
    unsafe { ioctl::call(directory, request, &raw mut attributes) }
}

/// Replaces the limits of a project.
///
/// # Errors
/// `ENOSYS` or `ESRCH` where there are no project quotas.
pub fn limit(file_system: FileSystem<'_>, project: u32, limits: ProjectLimits) -> io::Result<()> {
    let mut quota = DiskQuota {
        version: VERSION,
        kind: PROJECT,
        fields: LIMITS,
        id: project,
        hard_blocks: limits.bytes.div_ceil(BLOCK),
        soft_blocks: limits.bytes.div_ceil(BLOCK),
        hard_inodes: limits.inodes,
        soft_inodes: limits.inodes,
        ..DiskQuota::default()
    };
    // SAFETY: Q_XSETQLIM takes the structure that is passed, with the kernel's layout and size.
    unsafe { control(file_system, SET, project, &raw mut quota) }
}

/// What a project has and may have.
///
/// # Errors
/// As [`limit`].
pub fn usage(file_system: FileSystem<'_>, project: u32) -> io::Result<ProjectUsage> {
    let mut quota = DiskQuota::default();
    // SAFETY: Q_XGETQUOTA fills the structure that is passed, with the kernel's layout and size.
    let got = unsafe { control(file_system, GET, project, &raw mut quota) };
    match got {
        // xfs keeps nothing of a project that never had anything.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            return Ok(ProjectUsage::default());
        }
        other => other?,
    }
    Ok(ProjectUsage {
        bytes: quota.blocks * BLOCK,
        inodes: quota.inodes,
        limits: ProjectLimits {
            bytes: quota.hard_blocks * BLOCK,
            inodes: quota.hard_inodes,
        },
    })
}

/// Whether limits of projects are kept.
///
/// # Errors
/// As [`limit`].
pub fn are_limits_enforced(file_system: FileSystem<'_>) -> io::Result<bool> {
    let mut state = QuotaState {
        version: VERSION,
        ..QuotaState::default()
    };
    // SAFETY: Q_XGETQSTAT fills the structure that is passed, with the kernel's layout and size.
    unsafe { control(file_system, STATE, 0, &raw mut state) }?;
    Ok(state.flags & PROJECTS_ENFORCED != 0)
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<FileAttributes> {
    let mut attributes = FileAttributes::default();
    let request = ioctl::request(Direction::Read, MAGIC, 31, size_of::<FileAttributes>());
    // SAFETY: FS_IOC_FSGETXATTR fills the structure that is passed, with the kernel's layout and size.
    unsafe { ioctl::call(file, request, &raw mut attributes) }?;
    Ok(attributes)
}

/// A command of `quotactl` for projects, made of an `XQM_CMD`.
const fn command(number: u32) -> u32 {
    ((MAGIC << 8) + number) << 8 | PROJECT_TYPE
}

/// # Safety
/// `argument` points to what the kernel reads and writes for `command`.
unsafe fn control<T>(
    file_system: FileSystem<'_>,
    command: u32,
    id: u32,
    argument: *mut T,
) -> io::Result<()> {
    let result = match file_system {
        FileSystem::Of(file) => {
            let file = file.as_raw_fd();
            // SAFETY: the descriptor is borrowed for the whole call; the rest is the caller's promise.
            unsafe { libc::syscall(libc::SYS_quotactl_fd, file, command, id, argument) }
        }
        FileSystem::On(device) => {
            // SAFETY: the name is borrowed for the whole call and ends with a NUL; the rest is the caller's promise.
            unsafe { libc::syscall(libc::SYS_quotactl, command, device.as_ptr(), id, argument) }
        }
    };
    checked(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a C program gets from `linux/fs.h`, `linux/dqblk_xfs.h` and `linux/quota.h`.
    #[test]
    fn requests_and_structures_are_the_kernels() {
        let size = size_of::<FileAttributes>();
        assert_eq!(
            ioctl::request(Direction::Read, MAGIC, 31, size),
            0x801c_581f
        );
        assert_eq!(
            ioctl::request(Direction::Write, MAGIC, 32, size),
            0x401c_5820
        );
        assert_eq!((GET, SET, STATE), (0x58_0302, 0x58_0402, 0x58_0502));
        assert_eq!((size_of::<DiskQuota>(), size_of::<QuotaState>()), (112, 80));
    }

    #[test]
    fn other_file_systems_are_an_error() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(
            project_of(&proc).unwrap_err().raw_os_error(),
            Some(libc::ENOTTY)
        );
        for file_system in [FileSystem::Of(proc.as_fd()), FileSystem::On(c"/dev/null")] {
            usage(file_system, 1).unwrap_err();
        }
    }
}
