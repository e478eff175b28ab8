//! One pod, from namespaces to a running process, and back.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use crioxide_netlink::RouteSocket;
use crioxide_sys::namespaces::unshare;
use crioxide_sys::reap::wait_for;
use rustix::mount::mount_bind;
use rustix::process::{Pid, Signal, pidfd_send_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::cgroup::Cgroups;
use super::host::{Host, create, shared_memory, take_off};
use super::{child, link, root};

const KINDS: [(&str, LinkNameSpaceType); 3] = [
    ("net", LinkNameSpaceType::Network),
    ("ipc", LinkNameSpaceType::InterProcessCommunication),
    ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
];
/// Mounted into the container over files of its image.
pub(super) const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// A running pod of one container.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(super) folder: PathBuf,
    pins: Vec<PathBuf>,
    pub(super) cgroups: Cgroups,
    pid: Pid,
    pub(super) pidfd: OwnedFd,
}

impl Pod {
    pub(super) fn up(host: &mut Host) -> Result<Self> {
        let number = host.number();
        let folder = host.folder().join(number.to_string());
        create(&folder)?;
        let pins: Vec<PathBuf> = KINDS.iter().map(|(kind, _)| folder.join(kind)).collect();
        let mut inside = namespaces(host, &pins)?;
        link::connect(host, &pins[0], &mut inside, number)?;
        let shm = folder.join("shm");
        create(&shm)?;
        shared_memory(&shm)?;
        for file in FILES {
            std::fs::write(folder.join(file), format!("{number}\n"))
                .context("write a file of the pod")?;
        }
        root::mount_overlay(host, &folder)?;
        let cgroups = host.hierarchies.pod(&number.to_string())?;
        let (pid, pidfd) = child::start(host, &folder, &pins, &cgroups)?;
        Ok(Self {
            folder,
            pins,
            cgroups,
            pid,
            pidfd,
        })
    }

    /// The link is not deleted: it dies with its namespace, which nobody waits for.
    pub(super) fn down(self) -> Result<()> {
        pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL).context("kill the container")?;
        wait_for(self.pid).context("wait for the container")?;
        take_off(&self.folder.join("merged"))?;
        take_off(&self.folder.join("shm"))?;
        self.pins.iter().try_for_each(take_off)?;
        self.cgroups.remove()?;
        std::fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove `{}`", self.folder.display()))
    }
}

/// New namespaces, pinned; the answer is a socket in the network namespace.
fn namespaces(host: &Host, pins: &[PathBuf]) -> Result<RouteSocket> {
    let kinds = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    unshare(kinds).context("make namespaces")?;
    for ((kind, _), pin) in KINDS.iter().zip(pins) {
        File::create(pin).with_context(|| format!("create `{}`", pin.display()))?;
        mount_bind(format!("/proc/self/ns/{kind}"), pin).context("pin a namespace")?;
    }
    let inside = RouteSocket::open();
    for ((_, kind), own) in KINDS.iter().zip(&host.namespaces) {
        move_into_link_name_space(own.as_fd(), Some(*kind)).context("come back")?;
    }
    Ok(inside?)
}

/// Enters the pinned namespaces.
pub(super) fn join(pins: &[PathBuf]) -> Result<()> {
    for ((_, kind), pin) in KINDS.iter().zip(pins) {
        let pin = File::open(pin).context("open a pin")?;
        move_into_link_name_space(pin.as_fd(), Some(*kind)).context("join a namespace")?;
    }
    Ok(())
}
