//! Device nodes and the usual links in the container's `/dev`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crioxide_files::InRoot;
use crioxide_sys::mount_attributes::Reach;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, makedev, mknodat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::rootfs::mounts::attach::{mount_point, place};
use crate::rootfs::mounts::source::{RootPropagation, copy_tree};
use crate::setup_error::{SetupError, at};

/// A device to be made in the container.
#[derive(Debug)]
pub(crate) struct PreparedDevice {
    path: PathBuf,
    kind: FileType,
    number: u64,
    mode: u32,
    owner: (u32, u32),
    /// The host's node, bound where nodes cannot be made.
    host: Option<OwnedFd>,
}

impl PreparedDevice {
    /// The host's node, if it is open.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.host.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// Whether the container's root may make device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeMaking {
    /// It may.
    Allowed,
    /// It is in a user namespace, so nodes of the host are bound.
    Bind,
}

/// The devices every container has: path, major and minor number.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// All devices of a container, with host nodes opened if they will be needed.
pub(crate) fn prepare(
    listed: &[LinuxDevice],
    making: NodeMaking,
) -> Result<Vec<PreparedDevice>, SetupError> {
    let mut devices = Vec::new();
    for (path, major, minor) in DEFAULTS {
        if !listed.iter().any(|device| device.path() == Path::new(path)) {
            devices.push(PreparedDevice {
                path: path.into(),
                kind: FileType::CharacterDevice,
                number: makedev(major, minor),
                mode: 0o666,
                owner: (0, 0),
                host: None,
            });
        }
    }
    for device in listed {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => {
                FileType::CharacterDevice
            }
        };
        devices.push(PreparedDevice {
            path: device.path().clone(),
            kind,
            number: makedev(device.major() as u32, device.minor() as u32),
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
            host: None,
        });
    }
    if making == NodeMaking::Bind {
        for device in devices
            .iter_mut()
            .filter(|device| device.kind != FileType::Fifo)
        {
            device.host = Some(copy_tree(
                &device.path,
                Reach::Single,
                RootPropagation::Private,
            )?);
        }
    }
    Ok(devices)
}

/// Makes the devices and the usual links.
pub(crate) fn make_all(root: &InRoot, devices: &[PreparedDevice]) -> Result<(), SetupError> {
    // Permissions are given in full; the mask of the caller must not take any away.
    let mask = rustix::process::umask(Mode::empty());
    let result = devices
        .iter()
        .try_for_each(|device| make(root, device))
        .and_then(|()| make_links(root));
    rustix::process::umask(mask);
    result
}

fn make(root: &InRoot, device: &PreparedDevice) -> Result<(), SetupError> {
    if let Some(host) = &device.host {
        let target = mount_point(root, &device.path, device.kind)?;
        return place(host.as_fd(), target.as_fd(), &device.path);
    }
    let Some(name) = device.path.file_name() else {
        return Err(SetupError::Unexpected {
            path: device.path.clone(),
            found: "not a path of a device",
        });
    };
    let parent = root.mkdir_all(device.path.parent().unwrap_or(Path::new("/")), 0o755)?;
    let mode = Mode::from_raw_mode(device.mode);
    let fails = |action| at::<Errno>(action, &device.path);
    match mknodat(&parent, name, device.kind, mode, device.number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let status =
                statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fails("look at"))?;
            if FileType::from_raw_mode(status.st_mode) == device.kind
                && status.st_rdev == device.number
            {
                return Ok(());
            }
            // Whatever the image put here is not the device that programs will take it for.
            unlinkat(&parent, name, AtFlags::empty()).map_err(fails("replace"))?;
            mknodat(&parent, name, device.kind, mode, device.number)
                .map_err(fails("make device"))?;
        }
        Err(error) => return Err(fails("make device")(error)),
    }
    let (uid, gid) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
    if device.owner != (0, 0) {
        chownat(
            &parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(fails("set the owner of"))?;
        chmodat(&parent, name, mode, AtFlags::empty()).map_err(fails("set the mode of"))?;
    }
    Ok(())
}

fn make_links(root: &InRoot) -> Result<(), SetupError> {
    let dev = root.mkdir_all("dev", 0o755)?;
    let link = |target: &str, name: &str| match symlinkat(target, &dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(at("make link", Path::new("/dev").join(name))(error)),
    };
    for (name, target) in LINKS {
        link(target, name)?;
    }
    if rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        link("/proc/kcore", "core")?;
    }
    // Only a pty of the container's own devpts will do, so an existing entry is replaced.
    match unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => link("pts/ptmx", "ptmx"),
        // A device bound over it by the configuration stays.
        Err(Errno::BUSY | Errno::ISDIR | Errno::PERM) => Ok(()),
        Err(error) => Err(at("replace", "/dev/ptmx")(error)),
    }
}

/// The host's null device, by descriptor and known to be that: what files are masked with.
pub(crate) fn host_null() -> Result<OwnedFd, SetupError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null =
        rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(at("open", "/dev/null"))?;
    let status = fstat(&null).map_err(at("look at", "/dev/null"))?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == makedev(1, 3);
    if !is_null {
        return Err(SetupError::Unexpected {
            path: "/dev/null".into(),
            found: "not the null device",
        });
    }
    Ok(null)
}
