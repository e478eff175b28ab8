//! The runtime's view of a container, as the OCI `state` document gives it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Life phase of a container. `Paused` is no OCI status but what runc and crun answer for a frozen container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// The environment is being made.
    Creating,
    /// Made, the user's process not yet run.
    Created,
    /// The user's process has been run and lives.
    Running,
    /// The process has ended.
    Stopped,
    /// Running, but frozen.
    Paused,
}

impl fmt::Display for ContainerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        })
    }
}

/// Answer of `state`. Fields beyond the OCI specification (runc's `rootfs`, `created`, `owner`) are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeState {
    /// Version of the OCI specification the runtime follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// Container id.
    pub id: String,
    /// Life phase.
    pub status: ContainerStatus,
    /// Host pid of the first process; 0 once it has ended.
    #[serde(default)]
    pub pid: i32,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// Annotations of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<HashMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runc_answer_is_read() {
        let text = r#"{"ociVersion":"1.0.2-dev","id":"x","pid":0,"status":"paused","bundle":"/b",
            "rootfs":"/b/rootfs","created":"2026-01-01T00:00:00Z","owner":"","annotations":{"a":"b"}}"#;
        let state: RuntimeState = serde_json::from_str(text).unwrap();
        assert_eq!(state.status, ContainerStatus::Paused);
        assert_eq!(state.pid, 0);
        assert_eq!(state.annotations.unwrap()["a"], "b");
    }

    #[test]
    fn unknown_status_is_refused() {
        let text = r#"{"ociVersion":"1","id":"x","status":"dancing","bundle":"/b"}"#;
        assert!(serde_json::from_str::<RuntimeState>(text).is_err());
    }
}
