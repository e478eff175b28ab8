//! Why no spec could be made.

use thiserror::Error;

use crate::capabilities::UnknownCapabilityError;
use crate::cgroups_path::CgroupParentError;
use crate::command::CommandError;
use crate::environment::EnvironmentError;
use crate::mounts::volumes::VolumeError;
use crate::resources::ResourcesError;

/// A request no spec can be made for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// Nothing to run, or nowhere.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Impossible variables.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Unknown capabilities.
    #[error(transparent)]
    Capability(#[from] UnknownCapabilityError),
    /// Impossible mounts.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Impossible limits.
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    /// A parent cgroup of the wrong kind.
    #[error(transparent)]
    CgroupParent(#[from] CgroupParentError),
    /// More privileges than the pod has.
    #[error("no privileged container allowed in sandbox")]
    PrivilegeOfPod,
    /// An OOM score the kernel does not know.
    #[error("oom_score_adj {value} is not in the range -1000 to 1000")]
    OomScore {
        /// The score.
        value: i64,
    },
}
