//! The `metadata` string of a storage container: how CRI-O recognises its own records in a shared store.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Metadata of a pod's or container's record in `containers.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct StorageMetadata {
    /// Name of the sandbox (`k8s_…`).
    pub pod_name: String,
    /// Id of the sandbox.
    pub pod_id: String,
    /// The image reference the user gave.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_name: String,
    /// Id of the image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// Name of the container (`k8s_…`).
    #[serde(rename = "name", skip_serializing_if = "String::is_empty")]
    pub container_name: String,
    /// Name in the CRI metadata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata_name: String,
    /// Pod uid; pods only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Pod namespace; pods only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// SELinux label of the mounts.
    #[serde(rename = "mountlabel", skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
    /// Unix seconds.
    pub created_at: i64,
    /// CRI attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Whether this is the pod's own record, whose id is then the pod id.
    #[serde(skip_serializing_if = "is_false")]
    pub pod: bool,
    /// Whether the pod may hold privileged containers.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
}

/// Metadata that is not ours to touch.
#[derive(Debug, Error)]
pub enum ParseMetadataError {
    /// Not the JSON object this runtime writes.
    #[error("container metadata is not a JSON object of this runtime")]
    Json {
        /// The parser's report.
        source: serde_json::Error,
    },
    /// Another tool's record: it names no pod.
    #[error("container metadata names no pod")]
    Foreign,
}

impl StorageMetadata {
    /// Reads the metadata of a record that belongs to a pod.
    ///
    /// # Errors
    /// Fails for records of other tools (podman, buildah), which must be left alone.
    pub fn parse(text: &str) -> Result<Self, ParseMetadataError> {
        let metadata: Self =
            serde_json::from_str(text).map_err(|source| ParseMetadataError::Json { source })?;
        if metadata.pod_name.is_empty() || metadata.pod_id.is_empty() {
            Err(ParseMetadataError::Foreign)
        } else {
            Ok(metadata)
        }
    }

    /// The JSON text to store.
    #[must_use]
    pub fn to_json(&self) -> String {
        crate::go_json::record(self)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_record_is_written_as_recorded() {
        let text = r#"{"pod-name":"k8s_hostnet_default_2222_0","pod-id":"8f2a","image-name":"registry.k8s.io/pause:3.10","image-id":"975f","name":"k8s_POD_hostnet_default_2222_0","metadata-name":"hostnet","uid":"2222","namespace":"default","created-at":1795445020,"pod":true,"privileged":true}"#;
        let metadata = StorageMetadata::parse(text).unwrap();
        assert!(metadata.pod && metadata.privileged);
        assert_eq!(metadata.to_json(), text);
    }

    #[test]
    fn container_record_is_written_as_recorded() {
        let text = r#"{"pod-name":"k8s_web_default_1111_0","pod-id":"0023","image-name":"registry.k8s.io/e2e-test-images/busybox:1.29-2","image-id":"2fa6","name":"k8s_running_web_default_1111_2","metadata-name":"running","mountlabel":"system_u:object_r:container_file_t:s0:c1,c2","created-at":1795445019,"attempt":2}"#;
        assert_eq!(StorageMetadata::parse(text).unwrap().to_json(), text);
    }

    #[test]
    fn foreign_records_are_recognised() {
        assert!(matches!(
            StorageMetadata::parse(r#"{"image-name":"alpine"}"#),
            Err(ParseMetadataError::Foreign)
        ));
        assert!(matches!(
            StorageMetadata::parse("null"),
            Err(ParseMetadataError::Json { .. })
        ));
        assert!(matches!(
            StorageMetadata::parse(""),
            Err(ParseMetadataError::Json { .. })
        ));
    }
}
