//! The records that containers/storage keeps in its JSON files, field for field and in its order.
//!
//! Absent and `null` fields read as empty; empty ones are left out where Go's `omitempty` leaves them out. Fields this
//! version does not know are kept in `unknown` and written back.

pub(crate) mod big_data;
mod container;
mod image;
mod layer;
mod mount_point;

pub use container::ContainerRecord;
pub use image::ImageRecord;
pub use layer::{Compression, LayerRecord};
pub use mount_point::MountRecord;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// Fields of a record that this version has no name for, in their order.
pub type UnknownFields = serde_json::Map<String, serde_json::Value>;

/// Sizes of big data items in bytes, by key.
pub type BigDataSizes = std::collections::BTreeMap<String, i64>;

/// Digests of big data items, by key.
pub type BigDataDigests = std::collections::BTreeMap<String, String>;

/// One range of a user namespace mapping, as runtime and store write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the user namespace.
    pub container_id: u32,
    /// First id on the host.
    pub host_id: u32,
    /// How many ids.
    pub size: u32,
}

/// What the record files have in common.
pub(crate) trait Record: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// For messages: "layer", "image", ...
    const KIND: &'static str;
    fn id(&self) -> &str;
    fn names(&self) -> &[String];
    fn set_names(&mut self, names: Vec<String>);
}

/// Reads `null` as an empty value, as Go does.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
