//! Giving birth to the container's first process.

use std::os::fd::{AsFd, OwnedFd};

use crioxide_cgroups::Cgroup;
use crioxide_sys::clone::{CloneRequest, Cloned};
use crioxide_sys::fork::exit_now;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{CreateError, prepare};
use crate::init::{self, InitPlan};
use crate::process::namespaces::join;
use crate::setup_error::{SetupError, chain, step};
use crate::sync::{FromInit, SyncSocket};

/// Whose child the container's first process is, and so who learns of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitParent {
    /// The parent of the creating process: a monitor that forked it.
    Caller,
    /// The creating process itself.
    Creator,
}

/// The first process.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Makes the first process, which goes on with [`init::run`].
pub(super) fn spawn(
    plan: InitPlan<'_>,
    cgroup: &Cgroup,
    theirs: SyncSocket,
    parent: InitParent,
) -> Result<Spawned, CreateError> {
    let target = cgroup.clone_target().map_err(|error| SetupError::Path {
        action: "open cgroup",
        path: error.directory.clone(),
        source: error.source,
    })?;
    if plan.namespaces.is_new(LinuxNamespaceType::Time) {
        prepare::make_time_namespace(plan.bundle)?;
    }
    if plan.namespaces.joins(LinuxNamespaceType::User).is_some() {
        return spawn_through_user_namespace(plan, target.as_ref(), theirs, parent);
    }
    join_for_children(&plan)?;
    let request = request(parent, target.as_ref()).namespaces(plan.namespaces.clone_flags());
    match request.spawn().map_err(step("make the first process"))? {
        Cloned::Child => init::run(plan, &theirs),
        Cloned::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd }),
    }
}

/// A joined user namespace must be entered before the other namespaces are made, so that it owns them; but this process
/// must keep its rights on the host. A helper enters and makes the first process from there. It reports on a socket of
/// its own: the first process already speaks on the other one, and may be the quicker of the two.
fn spawn_through_user_namespace(
    plan: InitPlan<'_>,
    target: Option<&OwnedFd>,
    theirs: SyncSocket,
    parent: InitParent,
) -> Result<Spawned, CreateError> {
    let (reports, reporter) = SyncSocket::pair()?;
    match request(parent, target)
        .spawn()
        .map_err(step("make a helper process"))?
    {
        Cloned::Child => {
            let error = match enter_and_spawn(plan, &theirs, &reporter) {
                Ok(()) => exit_now(0),
                Err(error) => error,
            };
            // If the creator is gone there is nobody to tell.
            let _ = reporter.tell(&FromInit::Failed(chain(&error)));
            exit_now(1)
        }
        Cloned::Parent { pid: helper, .. } => {
            drop((theirs, reporter));
            let pid = match reports.hear() {
                Some(FromInit::Spawned(pid)) => Pid::from_raw(pid).ok_or(CreateError::InitDied)?,
                Some(FromInit::Failed(message)) => return Err(CreateError::Init { message }),
                _ => return Err(CreateError::InitDied),
            };
            if parent == InitParent::Creator {
                // Ended by now or about to.
                let _ = crioxide_sys::reap::wait_for(helper);
            }
            let pidfd =
                pidfd_open(pid, PidfdFlags::empty()).map_err(step("open the first process"))?;
            Ok(Spawned { pid, pidfd })
        }
    }
}

fn enter_and_spawn(
    mut plan: InitPlan<'_>,
    sync: &SyncSocket,
    reporter: &SyncSocket,
) -> Result<(), SetupError> {
    if let Some(cgroup) = plan.cgroup_to_join.take() {
        cgroup.join().map_err(|error| SetupError::Path {
            action: "join cgroup",
            path: error.directory.clone(),
            source: error.source,
        })?;
    }
    if let Some(user) = plan.namespaces.joins(LinuxNamespaceType::User) {
        join(user)?;
    }
    join_for_children(&plan)?;
    let request = CloneRequest::new()
        .sibling()
        .namespaces(plan.namespaces.clone_flags());
    match request.spawn().map_err(step("make the first process"))? {
        Cloned::Child => init::run(plan, sync),
        Cloned::Parent { pid, .. } => reporter.tell(&FromInit::Spawned(pid.as_raw_nonzero().get())),
    }
}

/// Namespaces that a process joins only for its future children.
fn join_for_children(plan: &InitPlan<'_>) -> Result<(), SetupError> {
    [LinuxNamespaceType::Pid, LinuxNamespaceType::Time]
        .into_iter()
        .filter_map(|kind| plan.namespaces.joins(kind))
        .try_for_each(join)
}

fn request(parent: InitParent, target: Option<&OwnedFd>) -> CloneRequest<'_> {
    let mut request = CloneRequest::new();
    if parent == InitParent::Caller {
        request = request.sibling();
    }
    match target {
        Some(target) => request.into_cgroup(target.as_fd()),
        None => request,
    }
}
