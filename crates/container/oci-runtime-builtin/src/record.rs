//! What the runtime remembers of a container: `<root>/<id>/state.json`, and the fifo that holds it back until its start.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited};
use crioxide_oci_runtime::{ContainerStatus, RuntimeState};
use oci_spec::runtime::Hooks;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// Version of the record's layout. Readers take this version and older ones.
const VERSION: u32 = 1;

/// Version of the OCI specification that is followed.
pub const OCI_VERSION: &str = "1.2.0";

const RECORD_LIMIT: u64 = 4 << 20;

/// Why a container's record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No such container.
    #[error("container `{id}` does not exist")]
    NotFound {
        /// Container id.
        id: String,
    },
    /// Not an id.
    #[error("invalid container id `{id}`: only letters, digits, `_`, `+`, `-` and `.` are allowed")]
    InvalidId {
        /// What was given.
        id: String,
    },
    /// The record's file cannot be read or written.
    #[error("{action} the record of container `{id}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Container id.
        id: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The record's file says something else than expected.
    #[error("record of container `{id}` is damaged")]
    Damaged {
        /// Container id.
        id: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Written by a newer version.
    #[error("record of container `{id}` has version {version}, newer than this program")]
    TooNew {
        /// Container id.
        id: String,
        /// Its version.
        version: u32,
    },
}

/// The directory of one container below the runtime's root.
#[derive(Debug, Clone)]
pub(crate) struct StateDirectory {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
}

/// Contents of `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// The first process as the host sees it.
    pub(crate) pid: i32,
    /// Its start in clock ticks after boot: a later process may have the same number, but not both.
    pub(crate) start_time: u64,
    /// Seconds since the epoch.
    pub(crate) created: u64,
    pub(crate) cgroup_path: String,
    pub(crate) systemd_cgroup: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hooks: Option<Hooks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<HashMap<String, String>>,
}

impl StateDirectory {
    /// Names the directory of a container; touches nothing.
    pub(crate) fn at(root: &Path, id: &str) -> Result<Self, RecordError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() || id.len() > 1024 || !id.chars().all(allowed) || matches!(id, "." | "..")
        {
            return Err(RecordError::InvalidId { id: id.to_owned() });
        }
        Ok(Self {
            id: id.to_owned(),
            path: root.join(id),
        })
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    pub(crate) fn save(&self, record: &ContainerRecord) -> Result<(), RecordError> {
        let io = |source| RecordError::Io {
            action: "write",
            id: self.id.clone(),
            source,
        };
        let bytes = serde_json::to_vec(record).map_err(|source| RecordError::Damaged {
            id: self.id.clone(),
            source,
        })?;
        // It lives in a directory that a reboot empties, so it need not outlast a power cut.
        let options = AtomicOptions {
            mode: 0o600,
            sync: Sync::None,
        };
        atomic_write(self.path.join("state.json"), &bytes, options)
            .map_err(|error| io(error.source))
    }

    pub(crate) fn load(&self) -> Result<ContainerRecord, RecordError> {
        let bytes = match read_limited(self.path.join("state.json"), RECORD_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                return Err(RecordError::NotFound {
                    id: self.id.clone(),
                });
            }
            Err(error) => {
                let source = io::Error::other(error);
                return Err(RecordError::Io {
                    action: "read",
                    id: self.id.clone(),
                    source,
                });
            }
        };
        let record: ContainerRecord =
            serde_json::from_slice(&bytes).map_err(|source| RecordError::Damaged {
                id: self.id.clone(),
                source,
            })?;
        if record.version > VERSION {
            return Err(RecordError::TooNew {
                id: self.id.clone(),
                version: record.version,
            });
        }
        Ok(record)
    }
}

impl ContainerRecord {
    pub(crate) const VERSION: u32 = VERSION;

    /// The container's cgroup.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        let driver = if self.systemd_cgroup {
            Driver::Systemd
        } else {
            Driver::Cgroupfs
        };
        let path = CgroupPath::parse(&self.cgroup_path, driver).ok()?;
        Some(Cgroup::at(CgroupLayout::host().ok()?, path))
    }

    /// The first process, if it still lives.
    pub(crate) fn init(&self) -> Option<Pid> {
        let pid = Pid::from_raw(self.pid)?;
        (process_start(pid) == Some(self.start_time)).then_some(pid)
    }

    /// What the container is doing.
    pub(crate) fn status(&self, directory: &StateDirectory) -> ContainerStatus {
        if self.init().is_none() {
            return ContainerStatus::Stopped;
        }
        if directory.fifo().exists() {
            return ContainerStatus::Created;
        }
        match self.cgroup() {
            Some(cgroup) if cgroup.is_frozen() => ContainerStatus::Paused,
            _ => ContainerStatus::Running,
        }
    }

    /// The OCI state document.
    pub(crate) fn state(&self, status: ContainerStatus) -> RuntimeState {
        RuntimeState {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid: if status == ContainerStatus::Stopped {
                0
            } else {
                self.pid
            },
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

/// When a process started, in clock ticks after boot; `None` if there is none or it has ended and only waits to be
/// reaped.
pub(crate) fn process_start(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name is in parentheses and may itself contain some.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_root() {
        let root = Path::new("/run/x");
        for id in ["", ".", "..", "a/b", "../x", "a\0", "a b", "ä"] {
            assert!(StateDirectory::at(root, id).is_err(), "{id:?}");
        }
        assert_eq!(
            StateDirectory::at(root, "a-1_b.c+").unwrap().path,
            Path::new("/run/x/a-1_b.c+")
        );
    }

    #[test]
    fn own_process_has_a_start_time() {
        let own = rustix::process::getpid();
        assert!(process_start(own).unwrap() > 0);
        assert_eq!(process_start(own), process_start(own));
        assert_eq!(process_start(Pid::from_raw(i32::MAX).unwrap()), None);
    }

    #[test]
    fn newer_records_are_not_guessed_at() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("x")).unwrap();
        let state = StateDirectory::at(directory.path(), "x").unwrap();
        assert!(matches!(state.load(), Err(RecordError::NotFound { .. })));
        let mut record = ContainerRecord {
            version: VERSION,
            id: "x".into(),
            bundle: "/b".into(),
            rootfs: "/b/r".into(),
            pid: 1,
            start_time: 0,
            created: 0,
            cgroup_path: "/x".into(),
            systemd_cgroup: false,
            hooks: None,
            annotations: None,
        };
        state.save(&record).unwrap();
        assert_eq!(state.load().unwrap().bundle, Path::new("/b"));
        record.version = VERSION + 1;
        state.save(&record).unwrap();
        assert!(matches!(state.load(), Err(RecordError::TooNew { .. })));
    }
}
