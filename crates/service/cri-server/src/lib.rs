//! The only crate that knows gRPC: one file per group of rpcs.
