//! CRI v1 messages and, with feature `grpc`, the client and server code.
//!
//! `src/gen` is generated from `proto/cri-v1.proto` and checked in, so that a build needs no protobuf compiler.
//! `tests/generated.rs` regenerates it and fails on a difference; `CRIOXIDE_GENERATE=1 cargo test -p crioxide-cri-api`
//! writes it. The server answers the lists of pods and containers by [`EncodedList`], everything else by the messages.
//!
//! The messages are plain data: they may be used wherever CRI's own shapes are the right input. The services are for
//! the one crate that knows gRPC and for test clients.
#![forbid(unsafe_code)]

mod encoded;
mod redact;

pub use encoded::{Encoded, EncodedList};

/// Package `runtime.v1`.
#[allow(
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated code"
)]
pub mod v1 {
    include!("gen/runtime.v1.rs");
    #[cfg(feature = "grpc")]
    include!("gen/server.rs");
}
