//! Pods and containers: their states, and the operations that change them.
//!
//! The engine knows neither gRPC nor root. It takes CRI's messages as plain data, talks to the host through its
//! [`ports`], and keeps the records in memory as immutable objects with a small changing state, so lists and statuses
//! never wait for an operation. One operation per pod or container changes it at a time; creations of the same name
//! join; every step of a creation registers its undo.
#![forbid(unsafe_code)]

mod container;
mod creations;
mod engine;
mod error;
mod events;
mod image_claims;
mod index;
mod operation;
mod ops;
mod pod;
pub mod ports;
mod settings;
mod user_namespace;
mod view;

pub use engine::Engine;
pub use error::{EngineError, ErrorKind, chain};
pub use events::{EventStream, EventsLost};
pub use image_claims::ImageRemoval;
pub use operation::{any_under_way, may_block};
pub use ops::{ExecSyncOutput, Restored};
pub use settings::{Handler, ImageVolumes, Settings};
pub use view::MetricGroup;
