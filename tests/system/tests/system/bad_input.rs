//! Bad input of every kind: each gets an error that names what and where, and leaves nothing behind.

mod network;
mod registry;
mod requests;
