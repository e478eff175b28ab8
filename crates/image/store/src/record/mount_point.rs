//! Mounted layers: `mountpoints.json` in the run root, which is empty again after a reboot.

use super::{Record, UnknownFields};
use serde::{Deserialize, Serialize};

/// A mounted layer and how many users asked for the mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MountRecord {
    /// Layer id.
    pub id: String,
    /// Where it is mounted.
    pub path: String,
    /// Users, at least 1.
    pub count: i64,
    /// Fields without a name here.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Record for MountRecord {
    const KIND: &'static str = "mount point";

    fn id(&self) -> &str {
        &self.id
    }

    fn names(&self) -> &[String] {
        &[]
    }

    fn set_names(&mut self, _names: Vec<String>) {}
}
