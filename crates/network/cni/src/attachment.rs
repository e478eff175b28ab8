//! One interface of one pod on one network.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{CniError, PodNetwork};

/// Argument by which an attachment tells the pod it was made for.
const POD_ID_ARG: &str = "K8S_POD_INFRA_CONTAINER_ID";

/// An attachment: what plugins are told of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Id of the pod sandbox.
    pub container_id: String,
    /// Interface inside the pod.
    pub ifname: String,
    /// Path of the network namespace it was made in; not given when it is known to be gone.
    pub netns: Option<PathBuf>,
    /// Name of the network.
    pub network: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// What plugins may be told by capability.
    pub capability_args: Map<String, Value>,
}

impl Attachment {
    /// The attachment of `pod` to `network`.
    ///
    /// # Errors
    /// When an id or name would not be valid in a file name or as an interface.
    pub(crate) fn of_pod(
        pod: &PodNetwork,
        network: &str,
        inherited: &[(String, String)],
    ) -> Result<Self, CniError> {
        check_names(pod)?;
        Ok(Self {
            container_id: pod.id.clone(),
            ifname: pod.ifname.clone(),
            netns: Some(pod.netns.clone()),
            network: network.to_owned(),
            args: pod.cni_args(inherited),
            capability_args: pod.capability_args(network),
        })
    }

    /// No pod in particular, for verbs that concern the whole network.
    pub(crate) fn nobody(network: &str) -> Self {
        Self {
            container_id: String::new(),
            ifname: String::new(),
            netns: None,
            network: network.to_owned(),
            args: Vec::new(),
            capability_args: Map::new(),
        }
    }

    /// Whether a Kubernetes runtime made it; podman and others share the directory.
    pub fn is_pod(&self) -> bool {
        self.args
            .iter()
            .any(|(key, value)| key == POD_ID_ARG && *value == self.container_id)
    }
}

/// The specification's rules for container ids and interface names.
pub(crate) fn check_names(pod: &PodNetwork) -> Result<(), CniError> {
    let refused = |reason: String| {
        Err(CniError::Pod {
            id: pod.id.clone(),
            reason,
        })
    };
    let mut bytes = pod.id.bytes();
    let id_is_valid = bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if !id_is_valid {
        return refused(format!(
            "`{}` is not a container id",
            pod.id.escape_default()
        ));
    }
    let name = &pod.ifname;
    let name_is_valid = !name.is_empty()
        && name.len() <= 15
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if !name_is_valid {
        return refused(format!(
            "`{}` is not an interface name",
            name.escape_default()
        ));
    }
    Ok(())
}
