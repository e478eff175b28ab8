//! System call filters of containers.
//!
//! Profiles come in two JSON forms: the OCI one, and the one container engines share, whose rules may depend on
//! capabilities, architecture and kernel. Both are read into a [`Profile`], which [`Profile::resolve`] turns into the
//! rules for one container.

pub mod builtin;
pub mod choose;
mod errno;
pub mod notify;
pub mod profile;
pub mod resolve;

pub use builtin::builtin;
pub use choose::{WantedProfile, wanted};
pub use profile::{ParseProfileError, Profile};
pub use resolve::{KernelVersion, ResolveProfileError, Target};

#[cfg(test)]
mod tests;
