//! What file systems and block devices are asked for.

pub mod block_device;
pub mod btrfs;
pub mod device_mapper;
pub mod project_quota;
