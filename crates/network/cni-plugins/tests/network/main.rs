//! Real pods' networks: every test has a host of its own, a fresh network namespace with its own
//! directories, so that the machine stays as it was and tests run side by side.

#![forbid(unsafe_code)]

mod contract;
mod faults;
mod fixture;
mod parallel;
mod ports;
