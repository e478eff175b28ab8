//! Labels of pods and containers: size limits and the ones every pod has.

use std::collections::{BTreeMap, HashMap};

use crioxide_cri_api::v1;
use crioxide_node_records::annotations::keys;
use thiserror::Error;

/// Largest key plus value, in bytes.
pub const MAX_LABEL_SIZE: usize = 4096;

/// A label that is too large.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "label key and value is greater than maximum size ({MAX_LABEL_SIZE} bytes), key: {shown_key}"
)]
pub struct LabelSizeError {
    /// The beginning of the label's key.
    pub shown_key: String,
}

/// Checks the size of every label.
///
/// # Errors
/// Fails for the first label, in key order, whose key and value together exceed [`MAX_LABEL_SIZE`].
pub fn check_sizes(labels: &HashMap<String, String>) -> Result<(), LabelSizeError> {
    let largest = labels
        .iter()
        .filter(|(key, value)| key.len() + value.len() > MAX_LABEL_SIZE)
        .min();
    match largest {
        None => Ok(()),
        Some((key, _)) => Err(LabelSizeError {
            shown_key: key.chars().take(10).collect(),
        }),
    }
}

/// The labels of a pod: the requested ones, the pod's identity where it is missing, and `POD` as container name.
#[must_use]
pub fn sandbox_labels(
    requested: &HashMap<String, String>,
    metadata: &v1::PodSandboxMetadata,
) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = requested
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in [
        (keys::KUBERNETES_POD_NAME, &metadata.name),
        (keys::KUBERNETES_POD_NAMESPACE, &metadata.namespace),
        (keys::KUBERNETES_POD_UID, &metadata.uid),
    ] {
        labels
            .entry(key.to_owned())
            .or_insert_with(|| value.clone());
    }
    labels.insert(keys::KUBERNETES_CONTAINER_NAME.to_owned(), "POD".to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_inclusive() {
        let labels = |size: usize| HashMap::from([("long-label-key".to_owned(), "v".repeat(size))]);
        assert_eq!(check_sizes(&labels(4096 - 14)), Ok(()));
        let error = check_sizes(&labels(4096 - 13)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "label key and value is greater than maximum size (4096 bytes), key: long-label"
        );
    }

    #[test]
    fn identity_is_added_but_never_overrides() {
        let metadata = v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 0,
        };
        let labels = sandbox_labels(
            &HashMap::from([(keys::KUBERNETES_POD_NAME.to_owned(), "other".to_owned())]),
            &metadata,
        );
        assert_eq!(labels[keys::KUBERNETES_POD_NAME], "other");
        assert_eq!(
            (
                labels[keys::KUBERNETES_POD_UID].as_str(),
                labels[keys::KUBERNETES_CONTAINER_NAME].as_str()
            ),
            ("u", "POD")
        );
    }
}
