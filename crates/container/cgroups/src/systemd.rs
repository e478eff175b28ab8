//! Transient units: asking systemd for scopes and slices.
//!
//! The calls block and open a connection each: they run in the short-lived process that makes a container, or in a
//! blocking pool.

mod call;
mod properties;

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, getpid};

use crate::{CgroupLayout, CgroupPath};
use call::Systemd;
use properties::Property;

/// A failed request to systemd.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The system bus or systemd's private socket could not be reached.
    #[error("cannot connect to systemd over D-Bus")]
    Connect {
        /// Why.
        source: rustbus::connection::Error,
    },
    /// The request could not be sent or no answer came in time.
    #[error("the D-Bus call `{method}` for `{unit}` got no answer")]
    Transport {
        /// `StartTransientUnit`, ...
        method: &'static str,
        /// The unit.
        unit: String,
        /// Why.
        source: rustbus::connection::Error,
    },
    /// systemd said no.
    #[error("systemd refused `{method}` for `{unit}`: {name}: {message}")]
    Refused {
        /// `StartTransientUnit`, ...
        method: &'static str,
        /// The unit.
        unit: String,
        /// D-Bus error name.
        name: String,
        /// Its text.
        message: String,
    },
    /// The job did not end well.
    #[error("systemd's job to start `{unit}` ended as `{result}`")]
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, ...
        result: String,
    },
    /// The request could not be encoded.
    #[error("cannot encode the D-Bus call `{method}` for `{unit}`: {reason}")]
    Encode {
        /// `StartTransientUnit`, ...
        method: &'static str,
        /// The unit.
        unit: String,
        /// What is wrong.
        reason: String,
    },
}

/// Starts the unit of a systemd path; does nothing for a plain directory. A slice that exists already is fine.
pub(crate) fn start_unit(
    path: &CgroupPath,
    resources: Option<&LinuxResources>,
    layout: &CgroupLayout,
    member: Option<Pid>,
) -> Result<(), SystemdError> {
    let (unit, mut wanted) = match path {
        CgroupPath::Directory(_) => return Ok(()),
        CgroupPath::Scope { slice, unit } => {
            let member = member.unwrap_or_else(getpid).as_raw_nonzero().get();
            (unit, Property::of_scope(slice, unit, member.unsigned_abs()))
        }
        CgroupPath::Slice(slice) => (slice, Property::of_slice(slice)),
    };
    if let Some(resources) = resources {
        wanted.extend(Property::of_resources(resources, layout.is_unified()));
    }
    let mut systemd = Systemd::connect()?;
    match systemd.start_transient(unit, &wanted) {
        Err(SystemdError::Refused { name, .. }) if name.ends_with(".UnitExists") => match path {
            CgroupPath::Slice(_) => Ok(()),
            // A failed scope of an earlier try keeps its name until it is reset.
            _ => {
                systemd.reset_failed(unit)?;
                systemd.start_transient(unit, &wanted)
            }
        },
        other => other,
    }
}

/// Stops the unit of a systemd path; a unit that does not exist is fine.
pub(crate) fn stop_unit(path: &CgroupPath) -> Result<(), SystemdError> {
    let unit = match path {
        CgroupPath::Directory(_) => return Ok(()),
        CgroupPath::Scope { unit, .. } => unit,
        CgroupPath::Slice(slice) => slice,
    };
    let mut systemd = Systemd::connect()?;
    let stopped = match systemd.stop(unit) {
        Err(SystemdError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
        other => other,
    };
    // Only a unit that ended in failure has anything to reset.
    let _ = systemd.reset_failed(unit);
    stopped
}
