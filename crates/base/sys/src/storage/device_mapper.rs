//! The device mapper by its control node: the ioctls of `linux/dm-ioctl.h`.
//!
//! A device has a name and a table with one target, which is all that a thin pool and its volumes need. No udev cookies are
//! passed: whoever wants the device's node finds it by its number.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::ioctl::{self, Direction};

const CONTROL: &str = "/dev/mapper/control";
/// DM_IOCTL.
const MAGIC: u32 = 0xfd;
/// `sizeof(struct dm_ioctl)`, and where in it what is.
const HEADER: usize = 312;
const NAME: std::ops::Range<usize> = 48..176;
/// `sizeof(struct dm_target_spec)`.
const TARGET: usize = 40;
/// Of all ioctls here, whatever the kernel's own is.
const VERSION: [u32; 3] = [4, 0, 0];
/// Room for what the kernel answers.
const ANSWER: usize = 16 << 10;

const CREATE: u32 = 3;
const REMOVE: u32 = 4;
const SUSPEND: u32 = 6;
const STATUS: u32 = 7;
const TABLE_LOAD: u32 = 9;
const TABLE_STATUS: u32 = 12;
const MESSAGE: u32 = 14;

const SUSPEND_FLAG: u32 = 1 << 1;
const TABLE_FLAG: u32 = 1 << 4;
const BUFFER_FULL: u32 = 1 << 8;
const DEFERRED_REMOVE: u32 = 1 << 17;

/// The kernel's device mapper.
#[derive(Debug)]
pub struct DeviceMapper(File);

/// A device that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedDevice {
    /// The numbers of its node.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// How often it is open, mounts included.
    pub open_count: u32,
}

/// The only target of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLine {
    /// 512-byte sectors.
    pub length: u64,
    /// The kind of target, such as `thin-pool`.
    pub kind: String,
    /// Its table line or its status.
    pub text: String,
}

/// What to ask of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// How it is.
    Status,
    /// What it was made with.
    Table,
}

/// When a device is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Now, which fails with `EBUSY` while it is open.
    Now,
    /// When it is closed; now if it is not open.
    OnceClosed,
}

impl DeviceMapper {
    /// # Errors
    /// `NotFound`, `ENODEV` or `ENXIO` where the kernel has no device mapper.
    pub fn open() -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
        Ok(Self(control))
    }

    /// Makes a device with one target of `sectors`, ready for use.
    ///
    /// # Errors
    /// `EBUSY` when there is one of that name, `EINVAL` for a target that the kernel does not have or take.
    pub fn create(&self, name: &str, sectors: u64, kind: &str, table: &str) -> io::Result<()> {
        self.call(CREATE, name, 0, &[])?;
        let made = self
            .call(TABLE_LOAD, name, 0, &target(sectors, kind, table)?)
            .and_then(|_| self.resume(name));
        if made.is_err() {
            let _ = self.remove(name, Removal::Now);
        }
        made
    }

    /// Lets a device go on.
    ///
    /// # Errors
    /// `ENXIO` when it is not there.
    pub fn resume(&self, name: &str) -> io::Result<()> {
        self.call(SUSPEND, name, 0, &[]).map(drop)
    }

    /// Holds a device up, with its file system in a consistent state on it.
    ///
    /// # Errors
    /// As [`DeviceMapper::resume`].
    pub fn suspend(&self, name: &str) -> io::Result<()> {
        self.call(SUSPEND, name, SUSPEND_FLAG, &[]).map(drop)
    }

    /// Takes a device away. What is stored in a pool stays there. One that is not there is no error.
    ///
    /// # Errors
    /// `EBUSY`, see [`Removal`].
    pub fn remove(&self, name: &str, removal: Removal) -> io::Result<()> {
        let flags = match removal {
            Removal::Now => 0,
            Removal::OnceClosed => DEFERRED_REMOVE,
        };
        match self.call(REMOVE, name, flags, &[]) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The device of that name, if there is one.
    ///
    /// # Errors
    /// The error of the ioctl.
    pub fn find(&self, name: &str) -> io::Result<Option<MappedDevice>> {
        match self.call(STATUS, name, 0, &[]) {
            Ok(answer) => {
                let device = number(&answer, 40);
                Ok(Some(MappedDevice {
                    major: (device >> 8) & 0xfff,
                    minor: device & 0xff | (device >> 12) & 0xf_ff00,
                    open_count: number(&answer, 24),
                }))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The target of a device.
    ///
    /// # Errors
    /// `ENXIO` when the device is not there, `InvalidData` when it has not exactly one target.
    pub fn target(&self, name: &str, ask: Ask) -> io::Result<TargetLine> {
        let flags = match ask {
            Ask::Status => 0,
            Ask::Table => TABLE_FLAG,
        };
        let answer = self.call(TABLE_STATUS, name, flags, &[0; ANSWER])?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not one target that fits");
        if number(&answer, 20) != 1 || number(&answer, 28) & BUFFER_FULL != 0 {
            return Err(bad());
        }
        let start = number(&answer, 16) as usize;
        let spec = answer.get(start..start + TARGET).ok_or_else(bad)?;
        let (low, high) = (number(spec, 8), number(spec, 12));
        Ok(TargetLine {
            length: u64::from(high) << 32 | u64::from(low),
            kind: text(&spec[24..]),
            text: text(answer.get(start + TARGET..).ok_or_else(bad)?),
        })
    }

    /// Tells the target of a device something.
    ///
    /// # Errors
    /// What the target says.
    pub fn message(&self, name: &str, message: &str) -> io::Result<()> {
        // `struct dm_target_msg`: for the target at sector 0.
        let mut payload = vec![0; 8];
        payload.extend_from_slice(message.as_bytes());
        payload.push(0);
        self.call(MESSAGE, name, 0, &payload).map(drop)
    }

    /// The header that the kernel answers, with what is behind it.
    fn call(&self, command: u32, name: &str, flags: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (HEADER + payload.len()).next_multiple_of(8)];
        let size = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // There is room for its NUL.
        if name.len() >= NAME.len() || name.contains(['\0', '/']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` cannot be the name of a device"),
            ));
        }
        let words = [(0, VERSION[0]), (4, VERSION[1]), (8, VERSION[2])];
        for (at, word) in words
            .into_iter()
            .chain([(12, size), (16, HEADER as u32), (28, flags)])
            .chain((command == TABLE_LOAD).then_some((20, 1)))
        {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[NAME][..name.len()].copy_from_slice(name.as_bytes());
        bytes[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        // Aligned as the kernel's structures are.
        let mut aligned: Vec<u64> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|chunk| u64::from_ne_bytes(*chunk))
            .collect();
        let request = ioctl::request(Direction::ReadWrite, MAGIC, command, HEADER);
        // SAFETY: all these requests take a `struct dm_ioctl` whose field `data_size` says how many bytes, those behind it
        // included, the kernel may read and write; it is the size of the buffer.
        unsafe { ioctl::call(self.0.as_fd(), request, aligned.as_mut_ptr()) }?;
        Ok(aligned.into_iter().flat_map(u64::to_ne_bytes).collect())
    }
}

impl MappedDevice {
    /// The node that devtmpfs has for it.
    pub fn node(self) -> PathBuf {
        format!("/dev/dm-{}", self.minor).into()
    }
}

/// `struct dm_target_spec` with its table line.
fn target(sectors: u64, kind: &str, table: &str) -> io::Result<Vec<u8>> {
    let mut payload = vec![0; TARGET];
    payload[8..16].copy_from_slice(&sectors.to_ne_bytes());
    let place = &mut payload[24..TARGET - 1];
    let place = place
        .get_mut(..kind.len())
        .ok_or(io::ErrorKind::InvalidInput)?;
    place.copy_from_slice(kind.as_bytes());
    payload.extend_from_slice(table.as_bytes());
    payload.push(0);
    Ok(payload)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    if let Some(found) = bytes.get(at..at + 4) {
        word.copy_from_slice(found);
    }
    u32::from_ne_bytes(word)
}

/// Up to the NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_targets_are_the_kernels() {
        let request = |command| ioctl::request(Direction::ReadWrite, MAGIC, command, HEADER);
        assert_eq!(request(CREATE), 0xc138_fd03);
        assert_eq!(request(MESSAGE), 0xc138_fd0e);
        let line = target(2048, "thin", "253:0 7").unwrap();
        assert_eq!(line.len(), TARGET + 8);
        assert_eq!(line[8..16], 2048_u64.to_ne_bytes());
        assert_eq!(text(&line[24..]), "thin");
        assert_eq!(text(&line[TARGET..]), "253:0 7");
        target(1, "a-name-that-is-too-long", "").unwrap_err();
    }

    /// With the null target, which every device mapper has; nothing is mapped.
    #[test]
    fn a_device_lives_from_table_to_removal() {
        let mapper = match DeviceMapper::open() {
            Ok(mapper) => mapper,
            Err(error) => {
                println!("skipped: no device mapper: {error}");
                return;
            }
        };
        let name = format!("crioxide-test-{}", std::process::id());
        assert_eq!(mapper.find(&name).unwrap(), None);
        mapper.create(&name, 64, "zero", "").unwrap();
        mapper.create(&name, 64, "zero", "").unwrap_err();
        let found = mapper.find(&name).unwrap().unwrap();
        assert_eq!(found.open_count, 0);
        let line = mapper.target(&name, Ask::Table).unwrap();
        assert_eq!((line.length, line.kind.as_str()), (64, "zero"));
        mapper.suspend(&name).unwrap();
        mapper.resume(&name).unwrap();
        mapper.remove(&name, Removal::OnceClosed).unwrap();
        mapper.remove(&name, Removal::Now).unwrap();
        mapper.create(&name, 64, "no-such-target", "").unwrap_err();
        assert_eq!(mapper.find(&name).unwrap(), None);
        mapper.create("a/b", 64, "zero", "").unwrap_err();
    }
}
