//! Where in the cgroup tree a container goes and what limits it has there.

pub mod cgroups_path;
pub mod resources;
pub mod unified;
