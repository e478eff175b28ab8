//! `state.json`: what the daemon last knew about a container's process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::go_time::{self, Moment};

/// The OCI version the records carry in their state, independent of the runtime's own.
pub const OCI_STATE_VERSION: &str = "1.0.2-dev";

/// Content of a container's `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    /// Version of the OCI state object.
    pub oci_version: String,
    /// Container id.
    pub id: String,
    /// What the container does.
    pub status: ContainerStatus,
    /// Init process; 0 when there is none.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: i32,
    /// Directory of the bundle.
    pub bundle: String,
    /// Annotations of the spec as the runtime reported them.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// When the runtime finished creating it.
    #[serde(with = "go_time")]
    pub created: Moment,
    /// When its process was started.
    #[serde(with = "go_time")]
    pub started: Moment,
    /// When its process ended.
    #[serde(with = "go_time")]
    pub finished: Moment,
    /// Exit code, once ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for lack of memory.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_killed: bool,
    /// Whether the seccomp notifier stopped it.
    #[serde(skip_serializing_if = "is_default")]
    pub seccomp_killed: bool,
    /// Whether its process is, or is to be, restored from a checkpoint. CRI-O does not record it.
    #[serde(skip_serializing_if = "is_default")]
    pub restored: bool,
    /// Why it could not be started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Process id of init, kept after the end; 0 in old files.
    #[serde(skip_serializing_if = "is_default")]
    pub init_pid: i32,
    /// Start time of init (field 22 of its `stat`, clock ticks), to recognise reused process ids.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub init_start_time: String,
    /// When it was checkpointed.
    #[serde(with = "go_time")]
    pub checkpointed_time: Moment,
    /// The monitor's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_monitor_process: Option<MonitorProcess>,
}

/// Status of the OCI state object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// The runtime is preparing it.
    #[default]
    Creating,
    /// Prepared, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Stopped,
    /// Frozen.
    Paused,
    /// Anything else a runtime may say.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A process with what tells it from a later one of the same id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MonitorProcess {
    /// Process id.
    pub pid: i32,
    /// Field 22 of its `stat`, in clock ticks.
    pub start_time: String,
}

/// A `state.json` that cannot be used.
#[derive(Debug, Error)]
#[error("container state is not valid")]
pub struct ParseStateError {
    /// The parser's report.
    #[from]
    source: serde_json::Error,
}

/// A state whose status has no place in the file.
#[derive(Debug, Error)]
#[error("cannot write the state of container {id}")]
pub struct WriteStateError {
    /// The container.
    pub id: String,
    /// The serializer's report.
    pub source: serde_json::Error,
}

impl ContainerState {
    /// Reads the file's content; keys of older or newer versions may be missing or additional.
    ///
    /// Files written before `initPid` was kept get it from `pid`.
    ///
    /// # Errors
    /// Fails if the content is no JSON object or a known key has the wrong type.
    pub fn parse(content: &[u8]) -> Result<Self, ParseStateError> {
        let mut state: Self = serde_json::from_slice(content)?;
        if state.init_pid == 0 {
            state.init_pid = state.pid;
        }
        Ok(state)
    }

    /// The file's content, one line without newline.
    ///
    /// # Errors
    /// Fails for [`ContainerStatus::Unknown`], which is only ever read.
    pub fn to_json(&self) -> Result<String, WriteStateError> {
        crate::go_json::to_string(self).map_err(|source| WriteStateError {
            id: self.id.clone(),
            source,
        })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = r#"{"ociVersion":"1.0.2-dev","id":"88e1","status":"running","pid":23218,"bundle":"/run/b/userdata","annotations":{"io.kubernetes.cri-o.Metadata":"{\"name\":\"inpod\"}","note":"a \u003c b"},"created":"2026-11-23T14:43:41.315007821Z","started":"2026-11-23T14:43:41.408300045Z","finished":"0001-01-01T00:00:00Z","initPid":23218,"initStartTime":"377545","checkpointedTime":"0001-01-01T00:00:00Z","containerMonitorProcess":{"pid":23207,"startTime":"377525"}}"#;
    const OOM: &str = r#"{"ociVersion":"1.0.2-dev","id":"19bc","status":"stopped","bundle":"/run/b/userdata","created":"2026-11-23T14:43:40.520344781Z","started":"2026-11-23T14:43:40.58734459Z","finished":"2026-11-23T14:43:41.354941652Z","exitCode":137,"oomKilled":true,"initPid":22961,"initStartTime":"377464","checkpointedTime":"0001-01-01T00:00:00Z"}"#;

    #[test]
    fn recorded_files_round_trip() {
        for text in [RUNNING, OOM] {
            assert_eq!(
                ContainerState::parse(text.as_bytes())
                    .unwrap()
                    .to_json()
                    .unwrap(),
                text
            );
        }
        assert_eq!(
            ContainerState::parse(OOM.as_bytes()).unwrap().exit_code,
            Some(137)
        );
    }

    #[test]
    fn old_and_new_files_are_read() {
        let old = r#"{"id":"a","status":"running","pid":7,"annotations":null,"created":"2020-01-02T03:04:05+02:00","fromTheFuture":{}}"#;
        let state = ContainerState::parse(old.as_bytes()).unwrap();
        assert_eq!(
            (state.init_pid, state.started, state.exit_code),
            (7, None, None)
        );
    }

    #[test]
    fn unknown_status_is_read_but_never_written() {
        let state = ContainerState::parse(br#"{"id":"a","status":"hibernating"}"#).unwrap();
        assert_eq!(state.status, ContainerStatus::Unknown);
        assert!(
            state
                .to_json()
                .unwrap_err()
                .to_string()
                .contains("container a")
        );
        assert!(ContainerState::parse(br#"{"id":1}"#).is_err());
    }
}
