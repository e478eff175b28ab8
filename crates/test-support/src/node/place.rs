//! What belongs to one node: directories, a subnet, a bridge and a cgroup that no other node uses.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{NodeOptions, cleanup};

/// Subnets that nodes of concurrent tests share out: 10.208.0.0/20 and up.
const SUBNETS: u16 = 192;
const DRIVER: &str = "CRIOXIDE_TEST_CGROUP_DRIVER";
const DIRECTORY: &str = "CRIOXIDE_TEST_ROOT";
/// Before the number in the name of a node's directory.
const PREFIX: &str = "node";

/// The private directories and names of a node.
#[derive(Debug)]
pub struct Place {
    base: TempDir,
    root: PathBuf,
    cni_cache: Option<PathBuf>,
    number: u16,
    // The lock on this number, free again when the file is closed: after the directory is gone.
    _claim: File,
}

impl Place {
    pub(super) fn claim(options: &NodeOptions) -> Result<Self> {
        let parent = std::env::var_os(DIRECTORY).map_or_else(std::env::temp_dir, PathBuf::from);
        cleanup::sweep(&parent);
        let (number, claim) = claim_number()?;
        // Short, as the path of a unix socket has 107 bytes at most.
        let base = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{number}-"))
            .tempdir_in(&parent)
            .with_context(|| format!("create a directory in `{}`", parent.display()))?;
        let place = Self {
            root: options
                .root
                .clone()
                .unwrap_or_else(|| base.path().join("root")),
            cni_cache: options.cni_cache.clone(),
            base,
            number,
            _claim: claim,
        };
        for folder in [
            "run", "etc", "cni", "log", "ns", "exits", "attach", "oci", "ipam",
        ] {
            let path = place.base().join(folder);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("create `{}`", path.display()))?;
        }
        Ok(place)
    }

    /// The directory that holds everything but the cgroups and links.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    pub(super) fn remains(&self) -> cleanup::Remains<'_> {
        cleanup::Remains {
            number: self.number,
            base: self.base(),
        }
    }

    /// The socket of the daemon.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.base().join("node.sock")
    }

    /// `crio.conf`.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.base().join("etc/crio.conf")
    }

    /// The graph root of containers/storage.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run root of containers/storage.
    #[must_use]
    pub fn runroot(&self) -> PathBuf {
        self.base().join("run")
    }

    /// Where the logs of pods go.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.base().join("log")
    }

    /// Where the daemon keeps the results of CNI plugins: apart from other nodes, whose leftovers it would clean up.
    #[must_use]
    pub fn cni_cache(&self) -> PathBuf {
        self.cni_cache
            .clone()
            .unwrap_or_else(|| self.base().join("cni-cache"))
    }

    /// The daemon's own log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.base().join("daemon.log")
    }

    /// The name of the bridge of this node's network.
    #[must_use]
    pub fn bridge(&self) -> String {
        bridge(self.number)
    }

    /// The name of this node's network.
    #[must_use]
    pub fn network(&self) -> String {
        format!("crioxide-test-{}", self.number)
    }

    /// The subnet of this node's pods, 4094 addresses.
    #[must_use]
    pub fn subnet(&self) -> String {
        format!("{}.0/20", self.subnet_prefix())
    }

    fn subnet_prefix(&self) -> String {
        format!("10.{}.{}", 208 + self.number / 16, (self.number % 16) * 16)
    }

    /// `cgroupfs` or `systemd`.
    #[must_use]
    pub fn cgroup_driver(&self) -> String {
        std::env::var(DRIVER).unwrap_or_else(|_| "cgroupfs".to_owned())
    }

    /// The cgroup above this node's pods, as the driver wants it written.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        if self.cgroup_driver() == "systemd" {
            format!("{}.slice", self.cgroup_name())
        } else {
            format!("/{}", self.cgroup_name())
        }
    }

    /// The name in the paths of all cgroups of this node.
    #[must_use]
    pub fn cgroup_name(&self) -> String {
        cgroup_name(self.number)
    }
}

pub(super) fn bridge(number: u16) -> String {
    format!("crxt{number}")
}

pub(super) fn cgroup_name(number: u16) -> String {
    format!("crioxidetest{number}x")
}

/// The number of the node that has, or had, a directory of this name.
pub(super) fn number_of_directory(name: &str) -> Option<u16> {
    let (number, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse().ok()
}

/// The lowest number that no living node has, with the lock that holds it.
fn claim_number() -> Result<(u16, File)> {
    for number in 0..SUBNETS {
        if let Some(claim) = claim(number)? {
            return Ok((number, claim));
        }
    }
    bail!("{SUBNETS} test nodes run already: `{}`", claims().display())
}

/// The lock that holds a number, unless a living node has it. Locks end with their process, so nothing needs repair
/// after a test was killed.
pub(super) fn claim(number: u16) -> Result<Option<File>> {
    let folder = claims();
    std::fs::create_dir_all(&folder).with_context(|| format!("create `{}`", folder.display()))?;
    let path = folder.join(number.to_string());
    let file = File::create(&path).with_context(|| format!("create `{}`", path.display()))?;
    Ok(file.try_lock().is_ok().then_some(file))
}

fn claims() -> PathBuf {
    std::env::temp_dir().join("crioxide-test-nodes")
}

#[cfg(test)]
mod tests {
    use super::number_of_directory;

    #[test]
    fn directories_of_nodes_are_told_by_their_names() {
        assert_eq!(number_of_directory("node12-Xy_z-"), Some(12));
        assert_eq!(number_of_directory("node-modules"), None);
        assert_eq!(number_of_directory("nodes1-x"), None);
    }
}
