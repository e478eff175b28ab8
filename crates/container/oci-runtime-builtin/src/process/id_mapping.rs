//! User namespaces: their id maps, and namespaces that exist only to carry a map for a mount.

use std::os::fd::{AsFd, OwnedFd};

use crioxide_sys::fork::{Fork, exit_now, fork};
use crioxide_sys::{messages, namespaces, reap};
use oci_spec::runtime::LinuxIdMapping;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::setup_error::{SetupError, at, step};

/// Writes the id maps of the user namespace that process `pid` is in. Written by a privileged process outside.
pub(crate) fn write_maps(
    pid: Pid,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<(), SetupError> {
    for (file, maps) in [("uid_map", uids), ("gid_map", gids)] {
        if maps.is_empty() {
            continue;
        }
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        // The kernel takes a map in one write only.
        std::fs::write(&path, lines(maps)).map_err(at("write the id map", &path))?;
    }
    Ok(())
}

/// The text of an id map.
fn lines(maps: &[LinuxIdMapping]) -> String {
    maps.iter()
        .map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size()))
        .collect()
}

/// A user namespace with this mapping that no process is in.
pub(crate) fn mapping_namespace(
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<OwnedFd, SetupError> {
    let failed = "make a user namespace for an id mapped mount";
    let (ours, theirs) = messages::packet_pair().map_err(step(failed))?;
    match fork().map_err(step(failed))? {
        Fork::Child => {
            drop(ours);
            let entered = namespaces::unshare(UnshareFlags::NEWUSER).is_ok();
            let told = messages::send_packet(&theirs, &[u8::from(entered)], &[]);
            // Stays until the other side has the namespace open and closes.
            if entered && told.is_ok() {
                let _ = messages::receive_packet(theirs.as_fd(), &mut [0]);
            }
            exit_now(0)
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let result = open_mapped(pid, &ours, uids, gids);
            drop(ours);
            // The child ends once the socket is closed; that it is gone is all that matters.
            let _ = reap::wait_for(pid);
            result
        }
    }
}

fn open_mapped(
    pid: Pid,
    socket: &OwnedFd,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<OwnedFd, SetupError> {
    let mut answer = [0];
    let packet =
        messages::receive_packet(socket, &mut answer).map_err(step("make a user namespace"))?;
    if packet.length != 1 || answer != [1] {
        return Err(step("make a user namespace")(rustix::io::Errno::PERM));
    }
    write_maps(pid, uids, gids)?;
    let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(at("open", &path))
}
