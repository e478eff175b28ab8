//! Seccomp filters from OCI profiles, capabilities.
