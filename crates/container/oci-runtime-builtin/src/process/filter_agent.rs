//! Handing the descriptor of a filter that holds calls up to the agent that answers them (`listenerPath`).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crioxide_sys::messages::send_packet;
use oci_spec::runtime::LinuxSeccomp;
use rustix::process::Pid;
use serde_json::Value;

use crate::setup_error::{SetupError, at, step};

/// Name of the descriptor among those of the message.
const FILTER: &str = "seccompFd";

/// Sends the descriptor with the message that the OCI specification has for it. `state` is the container's.
pub(crate) fn hand_over(
    profile: Option<&LinuxSeccomp>,
    listener: Vec<OwnedFd>,
    pid: Pid,
    state: Value,
) -> Result<(), SetupError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let path = profile
        .and_then(|profile| listener_path(profile))
        .ok_or_else(missing)
        .map_err(step("find the agent of the seccomp filter"))?;
    let [listener] = <[OwnedFd; 1]>::try_from(listener)
        .map_err(|_| missing())
        .map_err(step("receive the descriptor of the seccomp filter"))?;
    let version = state["ociVersion"].clone();
    let mut message = serde_json::json!({
        "ociVersion": version,
        "fds": [FILTER],
        "pid": pid.as_raw_nonzero(),
        "state": state,
    });
    if let Some(metadata) = profile.and_then(|profile| profile.listener_metadata().as_ref()) {
        message["metadata"] = metadata.clone().into();
    }
    let failed = "hand the seccomp filter to the agent at";
    let agent = UnixStream::connect(path).map_err(at(failed, path))?;
    send_packet(&agent, message.to_string().as_bytes(), &[listener.as_fd()])
        .map_err(at(failed, path))
}

/// Where the agent of a profile listens.
pub(crate) fn listener_path(profile: &LinuxSeccomp) -> Option<&Path> {
    let path = profile.listener_path().as_deref();
    path.filter(|path| !path.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_agent_gets_message_and_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let agent = UnixListener::bind(&path).unwrap();
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "mine",
        });
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let state = serde_json::json!({"ociVersion": "1.1.0", "id": "c"});
        let pid = rustix::process::getpid();
        hand_over(Some(&profile), vec![null()], pid, state.clone()).unwrap();
        let (mut connection, _) = agent.accept().unwrap();
        let mut first = [0; 10];
        let packet = crioxide_sys::messages::receive_packet(&connection, &mut first).unwrap();
        assert_eq!((packet.length, packet.descriptors.len()), (10, 1));
        let mut text = first.to_vec();
        connection.read_to_end(&mut text).unwrap();
        let message: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(message["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(message["metadata"], "mine");
        assert_eq!(message["pid"], pid.as_raw_nonzero().get());
        assert_eq!(message["state"], state);

        hand_over(None, vec![null()], pid, state.clone()).unwrap_err();
        hand_over(Some(&profile), Vec::new(), pid, state.clone()).unwrap_err();
        drop(agent);
        let error = hand_over(Some(&profile), vec![null()], pid, state).unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}
