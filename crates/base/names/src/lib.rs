//! Identifiers, parsed once at the border and passed as types from there on.
//!
//! [`PodId`], [`ContainerId`] and [`ImageId`] are 64 lower-case hex digits; [`Digest`] names content;
//! [`ImageReference`] is a normalized image name. Nothing here does I/O.
#![forbid(unsafe_code)]

mod digest;
mod id;
mod reference;

pub use digest::{Algorithm, Digest, ParseDigestError};
pub use id::{ContainerId, ImageId, ParseIdError, PodId};
pub use reference::{ImageReference, ParseReferenceError, ShortName};
