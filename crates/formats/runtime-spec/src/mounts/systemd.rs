//! What a systemd running as a container's init expects to find.

use oci_spec::runtime::Mount;

use super::mount;
use crate::resources::CgroupVersion;

/// Tells systemd in which kind of container it runs.
pub const ENVIRONMENT: (&str, &str) = ("container", "crio");

/// To be masked on cgroup v1: it names a program the node would run.
pub const RELEASE_AGENT: &str = "/sys/fs/cgroup/systemd/release_agent";

/// Temporary file systems and a writable cgroup tree; `taken` are destinations that are mounted already.
#[must_use]
pub fn mounts(version: CgroupVersion, taken: &dyn Fn(&str) -> bool) -> Vec<Mount> {
    let options = ["rw", "rprivate", "noexec", "nosuid", "nodev"];
    let mut mounts: Vec<Mount> = [
        ("/run", Some("size=65536k")),
        ("/run/lock", Some("size=65536k")),
        ("/tmp", None),
        ("/var/log/journal", None),
    ]
    .into_iter()
    .filter(|(destination, _)| !taken(destination))
    .map(|(destination, size)| {
        let all: Vec<&str> = options
            .into_iter()
            .chain(["tmpcopyup"])
            .chain(size)
            .collect();
        mount(destination, "tmpfs", "tmpfs", &all)
    })
    .collect();
    mounts.push(match version {
        CgroupVersion::V2 => mount("/sys/fs/cgroup", "cgroup", "cgroup", &["private", "rw"]),
        CgroupVersion::V1 => mount(
            "/sys/fs/cgroup/systemd",
            "bind",
            "/sys/fs/cgroup/systemd",
            &["bind", "nodev", "noexec", "nosuid"],
        ),
    });
    mounts
}
