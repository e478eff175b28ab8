//! The daemon's side of the monitor and spawner protocols (async).
