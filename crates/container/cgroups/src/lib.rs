//! Control groups of pods and containers, on both kernel interfaces and under both drivers.
//!
//! A [`Cgroup`] is one group of processes wherever the host keeps it: one directory per hierarchy on version 1, one
//! directory on version 2. With the cgroupfs driver the directories are made here; with the systemd driver systemd is
//! asked for a transient scope or slice and the files are then written as with cgroupfs, as runc does.
//!
//! Processes never wait for a grace period of the kernel: on version 1 a child joins by itself
//! ([`Cgroup::join`]), on version 2 it is born inside ([`Cgroup::clone_target`]).

#![forbid(unsafe_code)]

mod create;
mod devices;
mod files;
mod group;
mod layout;
mod limits;
mod oom;
mod path;
mod processes;
mod remove;
mod stats;
mod systemd;

pub use create::{CgroupWarning, CreateCgroupError};
pub use devices::default_device_rules;
pub use group::Cgroup;
pub use layout::{CgroupLayout, DetectLayoutError, Hierarchy};
pub use limits::{ApplyLimitsError, cpu_shares_to_weight, cpu_weight_to_shares};
pub use oom::OomWatch;
pub use path::{CgroupPath, Driver, ParseCgroupPathError, slice_directory};
pub use processes::CgroupProcessError;
pub use remove::RemoveCgroupError;
pub use stats::{
    CgroupDetail, CgroupStats, CpuDetail, DeviceIo, HugePages, MemoryDetail, MemoryLimits,
    MemoryStats, Pressure, Stalled, StatsBuffer, StatsReader,
};
pub use systemd::SystemdError;
