//! cgroup v1 and v2, cgroupfs and systemd drivers: create, limit, read, remove.
