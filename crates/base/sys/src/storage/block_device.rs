//! Block devices made of files, and blocks given back: `linux/loop.h` and `linux/fs.h`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::ioctl;
use crate::syscall::checked;

/// LOOP_CTL_GET_FREE.
const GET_FREE: u32 = 0x4c82;
/// LOOP_CONFIGURE.
const CONFIGURE: u32 = 0x4c0a;
/// LO_FLAGS_AUTOCLEAR.
const AUTOCLEAR: u32 = 4;
/// BLKDISCARD.
const DISCARD: u32 = 0x1277;
/// Others may take the free device first.
const ATTEMPTS: usize = 64;

/// `struct loop_config` with the `struct loop_info64` in it.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    special_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [[u8; 64]; 2],
    key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device, which goes when it, and whatever was made of it, is closed.
#[derive(Debug)]
pub struct LoopDevice {
    /// Keeps it.
    pub file: File,
    /// Of its node.
    pub number: u32,
}

/// Makes a block device of a file.
///
/// # Errors
/// `NotFound` where there are no loop devices, or no node for the one that is free.
pub fn attach(file: &File) -> io::Result<LoopDevice> {
    let control = OpenOptions::new().write(true).open("/dev/loop-control")?;
    let mut config = LoopConfig {
        file: u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
        block_size: 0,
        device: 0,
        inode: 0,
        special_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encryption: [0; 2],
        flags: AUTOCLEAR,
        names: [[0; 64]; 2],
        key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE has no argument.
        let free = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE as _) };
        let number = u32::try_from(checked(free.into())?).map_err(io::Error::other)?;
        let node = format!("/dev/loop{number}");
        let device = OpenOptions::new().read(true).write(true).open(node)?;
        // SAFETY: LOOP_CONFIGURE takes the structure that is passed, with the kernel's layout and size, and both
        // descriptors are open for the whole call.
        match unsafe { ioctl::call(device.as_fd(), CONFIGURE, &raw mut config) } {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            other => {
                return other.map(|()| LoopDevice {
                    file: device,
                    number,
                });
            }
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Gives the first `bytes` of a block device back to what is below it.
///
/// # Errors
/// `EOPNOTSUPP` where that does not take them.
pub fn discard(device: &File, bytes: u64) -> io::Result<()> {
    let mut range = [0, bytes];
    // SAFETY: BLKDISCARD takes two numbers of 64 bits.
    unsafe { ioctl::call(device.as_fd(), DISCARD, &raw mut range) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_file_is_a_block_device_until_it_is_closed() {
        let path = std::env::temp_dir().join(format!("crioxide-loop-{}", std::process::id()));
        std::fs::write(&path, vec![7; 4096]).unwrap();
        let options = OpenOptions::new().read(true).write(true).open(&path);
        std::fs::remove_file(&path).unwrap();
        let mut device = match attach(&options.unwrap()) {
            Ok(device) => device,
            Err(error) => {
                println!("skipped: no loop devices: {error}");
                return;
            }
        };
        let mut content = [0; 512];
        device.file.read_exact(&mut content).unwrap();
        assert_eq!(content, [7; 512]);
    }
}
