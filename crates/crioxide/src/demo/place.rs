//! What belongs to one demo: a directory, a subnet, a bridge and a cgroup that nobody else uses.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_to_string_limited};
use ipnet::Ipv4Net;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{host, network};

/// Names the directory, and what is made in the kernel for it.
const PREFIX: &str = "crioxide-demo-";
/// The record of a place, in its directory.
const RECORD: &str = "demo.json";
/// Locked by the process whose demo it is.
const LOCK: &str = "lock";
/// How long a demo that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// The private directory and names of a demo. The record is all that is needed to take it away.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Place {
    base: PathBuf,
    suffix: String,
    process: i32,
    pub(super) subnet: Ipv4Net,
    pub(super) driver: CgroupDriver,
    pub(super) masquerade: network::Masquerade,
    /// The switches that the bridge turns on, with their values of before.
    pub(super) forwarding: Vec<(PathBuf, String)>,
    #[serde(skip)]
    lock: Option<File>,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

impl Place {
    /// Looks whether this machine has what is needed, and takes a place on it. The text says what was found.
    pub(super) fn claim() -> anyhow::Result<(Self, String)> {
        host::check_privileges()?;
        let driver = host::cgroup_driver();
        let directory = host::directory(PREFIX)?;
        let base = directory.path.clone();
        let claimed = Self::claim_in(base.clone(), driver);
        if claimed.is_err() {
            // Nothing but the directory exists so far.
            let _ = unmount(&base, UnmountFlags::DETACH);
            let _ = std::fs::remove_dir_all(&base);
        }
        let place = claimed?;
        let found = format!(
            "{}, {}, in {}",
            host::kernel(),
            host::cgroups(driver),
            directory.description
        );
        Ok((place, found))
    }

    fn claim_in(base: PathBuf, driver: CgroupDriver) -> anyhow::Result<Self> {
        let name = base.file_name().unwrap_or_default().to_string_lossy();
        let suffix = name.strip_prefix(PREFIX).unwrap_or(&name).to_lowercase();
        let lock = File::create(base.join(LOCK)).context("create the demo's lock")?;
        lock.try_lock().context("lock the demo's directory")?;
        let place = Self {
            subnet: network::free_subnet(&suffix)?,
            masquerade: network::masquerade(),
            forwarding: network::forwarding()?,
            process: rustix::process::getpid().as_raw_pid(),
            suffix,
            driver,
            lock: Some(lock),
            base,
        };
        place.check_cgroups()?;
        for folder in [
            "etc", "cni", "run", "log", "ns", "exits", "attach", "oci", "cache",
        ] {
            let path = place.base.join(folder);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("create `{}`", path.display()))?;
        }
        let record = serde_json::to_string(&place).context("describe the demo")?;
        let options = AtomicOptions {
            mode: 0o600,
            sync: Sync::None,
        };
        atomic_write(place.base.join(RECORD), record.as_bytes(), options)
            .context("record the demo")?;
        Ok(place)
    }

    /// Makes the demo's cgroup for a moment, to say early that there is no way to.
    fn check_cgroups(&self) -> anyhow::Result<()> {
        if self.driver == CgroupDriver::Systemd {
            return Ok(());
        }
        let group = self.cgroup()?;
        let mut missing = Vec::new();
        for directory in group.directories() {
            if let Err(error) = std::fs::create_dir_all(&directory) {
                missing.push(format!("{}: {error}", directory.display()));
            }
        }
        let removed = group.remove();
        ensure!(
            missing.is_empty(),
            "cgroups cannot be made here, so containers would have no limits and no way to be found: {} \
             (in a container, /sys/fs/cgroup must be mounted writable)",
            missing.join("; ")
        );
        removed?;
        Ok(())
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.base.join("crio.sock")
    }

    pub(super) fn conf(&self) -> PathBuf {
        self.base.join("etc/crio.conf")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    pub(super) fn runroot(&self) -> PathBuf {
        self.base.join("run")
    }

    /// Where the daemon's log goes.
    pub(super) fn log(&self) -> PathBuf {
        self.base.join("daemon.log")
    }

    pub(super) fn pod_logs(&self) -> PathBuf {
        self.base.join("log/pod")
    }

    /// At most 15 bytes, as the kernel wants it.
    pub(super) fn bridge(&self) -> String {
        format!("crxdemo{}", self.suffix)
    }

    pub(super) fn network(&self) -> String {
        format!("{PREFIX}{}", self.suffix)
    }

    /// The cgroup above the pod's, as the driver wants it written.
    pub(super) fn cgroup_parent(&self) -> String {
        match self.driver {
            CgroupDriver::Cgroupfs => format!("/crioxidedemo{}", self.suffix),
            CgroupDriver::Systemd => format!("crioxidedemo{}.slice", self.suffix),
        }
    }

    pub(super) fn cgroup(&self) -> anyhow::Result<Cgroup> {
        let driver = match self.driver {
            CgroupDriver::Cgroupfs => Driver::Cgroupfs,
            CgroupDriver::Systemd => Driver::Systemd,
        };
        Ok(Cgroup::at(
            CgroupLayout::host()?,
            CgroupPath::parse(&self.cgroup_parent(), driver)?,
        ))
    }

    /// The last lines of the daemon's log.
    pub(super) fn log_tail(&self, lines: usize) -> Vec<String> {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }
}

/// The place in `directory`, if it is left for us: its process is told to end first, and one that does takes
/// everything away itself.
pub(super) async fn reopen(directory: &Path) -> anyhow::Result<Option<Place>> {
    host::check_privileges()?;
    let record = directory.join(RECORD);
    let text = read_to_string_limited(&record, 64 << 10)
        .with_context(|| format!("`{}` is not the directory of a demo", directory.display()))?;
    let mut place: Place =
        serde_json::from_str(&text).with_context(|| format!("read `{}`", record.display()))?;
    let lock = File::open(directory.join(LOCK)).context("open the demo's lock")?;
    if lock.try_lock().is_err() {
        // Whoever holds the lock is alive, so that the number is nobody else's.
        let process =
            Pid::from_raw(place.process).context("the record of the demo has no process id")?;
        kill_process(process, Signal::TERM).context("tell the demo's process to end")?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while lock.try_lock().is_err() {
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "process {} has been told to end and has not yet",
                    place.process
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !record.exists() {
            return Ok(None);
        }
    }
    ensure!(
        place.base
            == directory
                .canonicalize()
                .with_context(|| format!("resolve `{}`", directory.display()))?,
        "the record in `{}` is that of `{}`",
        directory.display(),
        place.base.display()
    );
    place.lock = Some(lock);
    Ok(Some(place))
}

/// Mounts a file system in memory on `base`.
pub(super) fn mount_memory(base: &Path) -> rustix::io::Result<()> {
    mount("tmpfs", base, "tmpfs", MountFlags::NODEV, c"mode=0700")
}
