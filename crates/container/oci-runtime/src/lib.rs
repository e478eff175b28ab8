//! The OCI runtime port and its command-line implementation (runc, crun).
