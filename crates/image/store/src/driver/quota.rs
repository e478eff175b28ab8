//! Limits of container layers by project quotas, as containers/storage has them on xfs; ext4 is told alike.
//!
//! A limited layer's directory is a project of its own, and all that is written into it inherits that. The number stays with
//! the directory and the limit with the file system, so both outlive this process. A number is free again when nothing
//! belongs to it: that is asked of the file system each time, whoever gave it to what.

use super::DriverError;
use super::tree::open_directory;
use crioxide_sys::project_quota::{self, FileSystem, ProjectLimits, ProjectUsage};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// In a home: the node of its device, for kernels that want one.
const DEVICE: &str = "backingFsBlockDev";
/// How many numbers each home has for its layers.
const RANGE: u32 = 10_000;

/// The projects of one home.
#[derive(Debug)]
pub(super) struct Projects {
    home: PathBuf,
    opened: OwnedFd,
    device: Option<CString>,
    /// The number of the home itself, which those of layers come after.
    first: u32,
    /// Last given out, counted from `first`.
    last: Mutex<u32>,
}

impl Projects {
    /// Sees whether limits would be kept at `home`.
    ///
    /// # Errors
    /// [`DriverError::NoProjectQuotas`] where they would not.
    pub(super) fn of(home: &Path) -> Result<Self, DriverError> {
        let fail = |action: &'static str| {
            let home = home.to_owned();
            move |error: io::Error| DriverError::io(action, home, error)
        };
        let opened = open_directory(CWD, home).map_err(fail("open"))?;
        let unsupported = |problem: String| DriverError::NoProjectQuotas {
            path: home.to_owned(),
            problem,
        };
        let project = project_quota::project_of(&opened)
            .map_err(|error| unsupported(format!("its file system has no projects: {error}")))?;
        let first = match project {
            0 => own_project(&opened).map_err(fail("look at"))?,
            set => set,
        };
        let mut projects = Self {
            home: home.to_owned(),
            opened,
            device: None,
            first,
            last: Mutex::new(0),
        };
        let mut enforced = project_quota::are_limits_enforced(projects.file_system());
        // Of an old kernel, or of a file system without quotas.
        if matches!(&enforced, Err(error) if Errno::from_io_error(error) == Some(Errno::NOSYS)) {
            projects.device = Some(make_device(home).map_err(fail("make the device node in"))?);
            enforced = project_quota::are_limits_enforced(projects.file_system());
        }
        match enforced {
            Ok(true) => {
                project_quota::stop_inheritance(&projects.opened)
                    .map_err(fail("let layers have their own projects in"))?;
                Ok(projects)
            }
            Ok(false) => Err(unsupported(
                "it is mounted without the limits of projects (pquota or prjquota)".into(),
            )),
            Err(error) => Err(unsupported(format!(
                "its file system keeps no project quotas: {error}"
            ))),
        }
    }

    /// Makes the new, empty `directory` a project and limits it.
    pub(super) fn limit(&self, directory: &Path, limits: ProjectLimits) -> Result<(), DriverError> {
        let fail = |action: &'static str| {
            move |error: io::Error| DriverError::io(action, directory, error)
        };
        let opened = open_directory(CWD, directory).map_err(fail("open"))?;
        for _ in 0..RANGE {
            let number = self.next();
            if self
                .usage_of(number)
                .map_err(fail("ask the quota of"))?
                .inodes
                > 0
            {
                continue;
            }
            project_quota::set_project(&opened, number).map_err(fail("make a project of"))?;
            let usage = self.usage_of(number).map_err(fail("ask the quota of"))?;
            // Somebody else may have taken the same one.
            if usage.inodes > 1 {
                continue;
            }
            return project_quota::limit(self.file_system(), number, limits)
                .map_err(fail("set the quota of"));
        }
        Err(DriverError::NoProjectQuotas {
            path: self.home.clone(),
            problem: format!("all {RANGE} project numbers from {} are in use", self.first),
        })
    }

    /// Takes the limit of a layer away, which goes now: the number is given out again.
    pub(super) fn lift(&self, directory: &Path) -> Result<(), DriverError> {
        let lifted = match self.project(directory) {
            Ok(Some(number)) => {
                project_quota::limit(self.file_system(), number, ProjectLimits::default())
            }
            Ok(None) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        lifted.map_err(|error| DriverError::io("lift the quota of", directory, error))
    }

    /// What a limited layer has; `None` of one that is not limited.
    pub(super) fn usage(&self, directory: &Path) -> io::Result<Option<ProjectUsage>> {
        let number = self.project(directory)?;
        number.map(|number| self.usage_of(number)).transpose()
    }

    fn usage_of(&self, number: u32) -> io::Result<ProjectUsage> {
        project_quota::usage(self.file_system(), number)
    }

    /// The number of a layer, if it has one of this home's.
    fn project(&self, directory: &Path) -> io::Result<Option<u32>> {
        let number = project_quota::project_of(open_directory(CWD, directory)?)?;
        Ok((number != 0 && number != self.first).then_some(number))
    }

    fn next(&self) -> u32 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = *last % (RANGE - 1) + 1;
        self.first.wrapping_add(*last).max(1)
    }

    fn file_system(&self) -> FileSystem<'_> {
        match &self.device {
            Some(device) => FileSystem::On(device),
            None => FileSystem::Of(self.opened.as_fd()),
        }
    }
}

/// The number that containers/storage computes for a home that nobody gave one to.
fn own_project(home: &OwnedFd) -> io::Result<u32> {
    let inode = File::from(home.try_clone()?).metadata()?.ino();
    let range = u64::from(RANGE);
    let number = range + inode.wrapping_mul(range) % (u64::from(u32::MAX) - range);
    Ok(u32::try_from(number).unwrap_or(RANGE))
}

/// Makes the node anew: the home may have been copied from another device.
fn make_device(home: &Path) -> io::Result<CString> {
    let device = fs::metadata(home)?.dev();
    let (node, new) = (home.join(DEVICE), home.join(format!("{DEVICE}.tmp")));
    let mode = Mode::RUSR | Mode::WUSR;
    let make = || mknodat(CWD, &new, FileType::BlockDevice, mode, device);
    match make() {
        Err(Errno::EXIST) => {
            fs::remove_file(&new)?;
            make()
        }
        other => other,
    }?;
    fs::rename(&new, &node)?;
    Ok(CString::new(node.as_os_str().as_bytes())?)
}
