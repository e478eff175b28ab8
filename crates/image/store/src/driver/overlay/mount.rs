//! Mounting overlayfs: by the descriptor-based interface, or by the classic call where the kernel lacks it.

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One page: the classic call cannot take longer option strings.
const MAX_DATA: usize = 4096;

/// The option for a writable layer that is never flushed.
pub(super) const VOLATILE: &str = "volatile";

/// Which interface to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    /// Try the new one, fall back to the classic one.
    Best,
    /// The classic one only.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "chosen by the tests of the fallback")
    )]
    Classic,
}

/// All that overlayfs is told. Relative paths are relative to `home`.
#[derive(Debug, Clone, Default)]
pub(super) struct OverlayMount {
    pub(super) home: PathBuf,
    /// Nearest first, relative.
    pub(super) lowers: Vec<PathBuf>,
    /// Upper and work directory, relative; `None` for a read-only mount.
    pub(super) writable: Option<(PathBuf, PathBuf)>,
    /// Where, relative.
    pub(super) target: PathBuf,
    /// Options of overlayfs, without the directories.
    pub(super) options: Vec<(String, Option<String>)>,
    pub(super) flags: VfsFlags,
}

/// Mount options that the kernel handles above the file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VfsFlags {
    pub(super) read_only: bool,
    pub(super) no_dev: bool,
    pub(super) no_suid: bool,
    pub(super) no_exec: bool,
    pub(super) no_atime: bool,
}

impl OverlayMount {
    pub(super) fn mount(&self, interface: Interface) -> io::Result<()> {
        self.forget_volatile_mount()?;
        if interface == Interface::Best {
            match self.by_descriptor() {
                Ok(()) => return Ok(()),
                Err(Attempt::Unsupported) => {}
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
        self.classic()
    }

    /// Removes the mark by which overlayfs refuses a writable layer after a volatile mount of it, also after one that
    /// failed later on. The layer is not mounted now, and what a power cut may have taken from it is the caller's choice.
    fn forget_volatile_mount(&self) -> io::Result<()> {
        let volatile = self.options.iter().any(|(key, _)| key == VOLATILE);
        let Some((_, work)) = self.writable.as_ref().filter(|_| volatile) else {
            return Ok(());
        };
        let mark = self.home.join(work).join("work/incompat/volatile");
        match std::fs::remove_dir_all(mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn by_descriptor(&self) -> Result<(), Attempt> {
        if !overlay_parses_parameters() {
            return Err(Attempt::Unsupported);
        }
        let context = match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => context,
            Err(Errno::NOSYS | Errno::PERM) => return Err(Attempt::Unsupported),
            Err(error) => return Err(Attempt::Failed(error.into())),
        };
        let failed = |error: Errno| Attempt::Failed(explain(&context, error));
        fsconfig_set_string(&context, "source", "overlay").map_err(failed)?;
        for lower in &self.lowers {
            match fsconfig_set_string(&context, "lowerdir+", self.home.join(lower)) {
                // Before Linux 6.8 there is no such parameter, and no parameter is longer than 255 bytes.
                Err(Errno::INVAL) => return Err(Attempt::Unsupported),
                other => other.map_err(failed)?,
            }
        }
        if let Some((upper, work)) = &self.writable {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                match fsconfig_set_string(&context, key, self.home.join(path)) {
                    Err(Errno::INVAL) => return Err(Attempt::Unsupported),
                    other => other.map_err(failed)?,
                }
            }
        }
        for (key, value) in &self.options {
            match value {
                Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
                None => fsconfig_set_flag(&context, key.as_str()),
            }
            .map_err(failed)?;
        }
        if self.flags.read_only {
            fsconfig_set_flag(&context, "ro").map_err(failed)?;
        }
        fsconfig_create(&context).map_err(failed)?;
        let detached = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            self.flags.attributes(),
        )
        .map_err(failed)?;
        move_mount(
            &detached,
            "",
            CWD,
            self.home.join(&self.target),
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(failed)
    }

    fn classic(&self) -> io::Result<()> {
        let absolute = self.data(&self.home);
        if absolute.len() < MAX_DATA {
            return self.mount_data(&self.home.join(&self.target), &absolute);
        }
        let relative = self.data(Path::new(""));
        if relative.len() >= MAX_DATA {
            let message = format!(
                "{} layers need {} bytes of mount options",
                self.lowers.len(),
                relative.len()
            );
            return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, message));
        }
        // The working directory belongs to the process; a thread that unshares it has one of its own.
        let in_home = || {
            crioxide_sys::working_directory::unshare_working_directory()?;
            rustix::process::chdir(&self.home)?;
            self.mount_data(&self.target, &relative)
        };
        std::thread::scope(|scope| scope.spawn(in_home).join())
            .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    }

    fn mount_data(&self, target: &Path, data: &[u8]) -> io::Result<()> {
        let data = CString::new(data)?;
        Ok(mount(
            "overlay",
            target,
            "overlay",
            self.flags.classic(),
            Some(data.as_c_str()),
        )?)
    }

    /// The options of the classic call, with paths below `home`.
    pub(super) fn data(&self, home: &Path) -> Vec<u8> {
        let mut data = b"lowerdir=".to_vec();
        for (index, lower) in self.lowers.iter().enumerate() {
            if index > 0 {
                data.push(b':');
            }
            escape(&home.join(lower), &mut data);
        }
        if let Some((upper, work)) = &self.writable {
            for (key, path) in [(",upperdir=", upper), (",workdir=", work)] {
                data.extend_from_slice(key.as_bytes());
                escape(&home.join(path), &mut data);
            }
        }
        for (key, value) in &self.options {
            data.push(b',');
            data.extend_from_slice(key.as_bytes());
            if let Some(value) = value {
                data.push(b'=');
                // A label holds commas; overlayfs and the security module take quotes around it.
                let quotes: &[u8] = if value.contains(',') { b"\"" } else { b"" };
                data.extend_from_slice(&[quotes, value.as_bytes(), quotes].concat());
            }
        }
        data
    }
}

/// Whether this kernel's overlayfs looks at each parameter as it is set. Before Linux 6.5 the kernel collects them for it
/// unseen, also the ones it does not know, and all that comes of a wrong one is "invalid argument" at the end.
fn overlay_parses_parameters() -> bool {
    static PARSES: OnceLock<bool> = OnceLock::new();
    *PARSES.get_or_init(|| {
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .is_ok_and(|context| fsconfig_set_string(&context, "no-such-parameter", "").is_err())
    })
}

enum Attempt {
    Unsupported,
    Failed(io::Error),
}

impl VfsFlags {
    fn attributes(self) -> MountAttrFlags {
        let choices = [
            (self.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (self.no_dev, MountAttrFlags::MOUNT_ATTR_NODEV),
            (self.no_suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (self.no_exec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (self.no_atime, MountAttrFlags::MOUNT_ATTR_NOATIME),
        ];
        choices
            .into_iter()
            .filter(|(chosen, _)| *chosen)
            .map(|(_, flag)| flag)
            .collect()
    }

    fn classic(self) -> MountFlags {
        let choices = [
            (self.read_only, MountFlags::RDONLY),
            (self.no_dev, MountFlags::NODEV),
            (self.no_suid, MountFlags::NOSUID),
            (self.no_exec, MountFlags::NOEXEC),
            (self.no_atime, MountFlags::NOATIME),
        ];
        choices
            .into_iter()
            .filter(|(chosen, _)| *chosen)
            .map(|(_, flag)| flag)
            .collect()
    }
}

/// Separators of the option string are escaped with a backslash.
fn escape(path: &Path, into: &mut Vec<u8>) {
    use std::os::unix::ffi::OsStrExt;
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            into.push(b'\\');
        }
        into.push(byte);
    }
}

/// Adds what the file system says about the failure, which is much more than an error number.
fn explain(context: &OwnedFd, error: Errno) -> io::Error {
    let mut messages = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(count) = rustix::io::read(context.as_fd(), &mut buffer) {
        if count == 0 || messages.len() > 8 {
            break;
        }
        messages.push(String::from_utf8_lossy(&buffer[..count]).trim().to_owned());
    }
    let plain = io::Error::from(error);
    if messages.is_empty() {
        plain
    } else {
        io::Error::new(plain.kind(), format!("{plain}: {}", messages.join("; ")))
    }
}
