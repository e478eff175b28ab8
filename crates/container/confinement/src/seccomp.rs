//! OCI seccomp profiles as BPF filters.
//!
//! [`compile`] is our own compiler: several architectures in one filter, argument comparisons and all
//! actions, which no pure Rust crate offers. What a profile means follows libseccomp as the reference
//! runtimes use it:
//!
//! - the native architecture is always filtered; calls of an architecture that the profile does not
//!   list kill the thread;
//! - unknown system call names are left out and reported;
//! - a rule without arguments beats rules with arguments of the same call; otherwise the first rule
//!   in the profile that matches decides;
//! - a rule that compares one argument several times matches if any of its comparisons holds;
//! - calls newer than everything the profile mentions fail with `ENOSYS`, so that programs fall back
//!   instead of taking an unexpected `EPERM` for an answer;
//! - on 32-bit x86, a rule for a socket call without arguments also covers it inside `socketcall`.

mod architecture;
mod argument;
mod code;
mod filter;
mod rules;

pub use architecture::call_name;
pub use filter::{CompileError, Filter, compile, supported_architectures};

#[cfg(test)]
mod tests;
