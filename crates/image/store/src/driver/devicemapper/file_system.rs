//! The file systems on volumes: making one, telling which is there, mounting it nowhere.

use super::pool::unusable;
use crate::driver::DriverError;
use crate::store::options::DevicemapperOptions;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// What a volume has on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// `ext4` or `xfs`.
    pub(super) kind: &'static str,
    /// As tools print it.
    pub(super) uuid: String,
}

/// Where the superblocks begin, the magic number in them, and where after that begin the UUID is.
const EXT4: (u64, &[u8], usize, usize) = (1024, &[0x53, 0xef], 0x38, 0x68);
const XFS: (u64, &[u8], usize, usize) = (0, b"XFSB", 0, 32);

impl FileSystem {
    /// # Errors
    /// When there is none of the two.
    pub(super) fn of(node: &Path) -> Result<Self, DriverError> {
        let fail = |error| DriverError::io("look for a file system on", node, error);
        let device = File::open(node).map_err(fail)?;
        for (kind, (start, magic, magic_at, uuid_at)) in [("ext4", EXT4), ("xfs", XFS)] {
            let mut block = [0; 256];
            device.read_exact_at(&mut block, start).map_err(fail)?;
            if block[magic_at..].starts_with(magic) {
                return Ok(Self {
                    kind,
                    uuid: uuid(&block[uuid_at..uuid_at + 16]),
                });
            }
        }
        Err(fail(io::Error::other("neither ext4 nor xfs")))
    }

    /// Makes one on an empty volume; of the kind that is asked for, or xfs where kernel and tools have it.
    pub(super) fn make(node: &Path, options: &DevicemapperOptions) -> Result<Self, DriverError> {
        let can_xfs = || {
            let known = fsopen("xfs", FsOpenFlags::FSOPEN_CLOEXEC).is_ok();
            known && Command::new("mkfs.xfs").arg("-V").output().is_ok()
        };
        let kind = match &options.file_system {
            Some(kind) => kind.as_str(),
            None if can_xfs() => "xfs",
            None => "ext4",
        };
        let program = format!("mkfs.{kind}");
        let mut command = Command::new(&program);
        match kind {
            "xfs" => command.arg("-q"),
            _ => command.args([
                "-q",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ]),
        };
        let output = command.args(&options.mkfs_arguments).arg(node).output();
        let problem = match output {
            Ok(output) if output.status.success() => return Self::of(node),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(unusable(format!(
            "make a file system by {program} on {}: {problem}",
            node.display()
        )))
    }

    /// A mount of it that is in no directory, and goes with the descriptor.
    pub(super) fn mount(
        &self,
        node: &Path,
        options: &[String],
        label: &str,
    ) -> io::Result<OwnedFd> {
        let mut attributes = MountAttrFlags::empty();
        let context = fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", node)?;
        if self.kind == "xfs" {
            // All volumes have that of the one they come from.
            fsconfig_set_flag(&context, "nouuid")?;
        }
        for option in options {
            match option.as_str() {
                "rw" | "dev" | "suid" | "exec" | "atime" | "relatime" | "nouuid" | "" => {}
                "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
                "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
                "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
                other => match other.split_once('=') {
                    Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                    None => fsconfig_set_flag(&context, other)?,
                },
            }
        }
        if !label.is_empty() {
            fsconfig_set_string(&context, "context", label)?;
        }
        fsconfig_create(&context)?;
        Ok(fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes,
        )?)
    }
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        File::create(&image)
            .and_then(|file| file.set_len(4 << 20))
            .unwrap();
        let error = FileSystem::of(&image).unwrap_err();
        assert!(format!("{error:?}").contains("neither"), "{error:?}");
        let wanted = "e8ee3fa4-ed22-4ff1-9a60-d4a9a6ae9d5d";
        let options = DevicemapperOptions {
            file_system: Some("ext4".into()),
            mkfs_arguments: vec!["-U".into(), wanted.into()],
            ..Default::default()
        };
        let made = match FileSystem::make(&image, &options) {
            Err(error) if error.to_string().contains("No such file") => {
                println!("skipped: mkfs.ext4 is not installed");
                return;
            }
            made => made.unwrap(),
        };
        assert_eq!((made.kind, made.uuid.as_str()), ("ext4", wanted));
        let mut superblock = b"XFSB".to_vec();
        superblock.resize(32, 0);
        superblock.extend([0xab; 16]);
        let xfs = [superblock, vec![0; 4096]].concat();
        std::fs::write(&image, xfs).unwrap();
        let found = FileSystem::of(&image).unwrap();
        assert_eq!(found.kind, "xfs");
        assert_eq!(found.uuid, "abababab-abab-abab-abab-abababababab");
    }
}
