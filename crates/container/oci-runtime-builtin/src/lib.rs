//! The built-in OCI runtime.
