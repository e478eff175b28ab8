//! How a shim is run, and what it answers.

use std::path::Path;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::messages::{BootstrapParams, BootstrapResult};
use crate::{Address, ShimError};

/// `LOG_LEVEL_DEBUG`; 0 is the usual level.
const LOG_LEVEL_DEBUG: i32 = -4;

/// Most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 4096;

/// Most of a nonsensical answer that is shown, characters.
const SHOWN: usize = 200;

/// What a shim is run for. It runs in the container's bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To serve the container, by a process that stays, or by one that is there already.
    Start,
    /// To take away what a shim that is gone has left of the container.
    Delete,
}

/// One run of a shim's program.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// Keeps the ids of several users of one shim apart.
    pub namespace: &'a str,
    /// Container.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Program that it may tell events; it is run with `publish`.
    pub publisher: &'a Path,
    /// Whether it should log more.
    pub debug: bool,
}

impl Invocation<'_> {
    /// The arguments, without the program's name.
    pub fn arguments(&self, action: Action) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments: Vec<String> = vec![
            "-namespace".into(),
            self.namespace.into(),
            "-address".into(),
            // Of containerd's own socket, for events. There is none.
            String::new(),
            "-publish-binary".into(),
            text(self.publisher),
            "-id".into(),
            self.id.into(),
        ];
        if self.debug {
            arguments.push("-debug".into());
        }
        match action {
            Action::Start => arguments.push("start".into()),
            Action::Delete => {
                arguments.extend(["-bundle".into(), text(self.bundle), "delete".into()]);
            }
        }
        arguments
    }

    /// What a shim of containerd 2.3 or later reads from its standard input when it is started. `events` is the socket
    /// for events.
    pub fn parameters(&self, events: &Path) -> Vec<u8> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let parameters = BootstrapParams {
            instance_id: self.id.to_owned(),
            namespace: self.namespace.to_owned(),
            log_level: if self.debug { LOG_LEVEL_DEBUG } else { 0 },
            ttrpc_address: text(events),
            binary: text(self.publisher),
        };
        parameters.encode_to_vec()
    }
}

/// Whether a shim that was started without parameters says that it wants them. There is no other way to know.
pub fn wants_parameters(said: &str) -> bool {
    said.contains("deprecated API")
}

/// Version of the task service. The messages of both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `containerd.task.v2`.
    V2,
    /// `containerd.task.v3`.
    V3,
}

/// Where a shim serves, and what. A shim of before version 3 prints the bare address, later ones JSON, and from
/// containerd 2.3 on a protobuf message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    version: u32,
    address: String,
    protocol: String,
}

impl Bootstrap {
    /// Reads what the shim printed, or what the file `address` in a bundle holds.
    ///
    /// # Errors
    /// It is no address, or one of a protocol that we do not speak.
    pub fn parse(output: &[u8]) -> Result<Self, ShimError> {
        let output = &output[..output.len().min(LONGEST_ANSWER)];
        let text = String::from_utf8_lossy(output);
        let text = text.trim();
        let nonsense = || ShimError::Bootstrap {
            text: text.chars().take(SHOWN).collect(),
        };
        let parsed = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|_| nonsense())?
        } else if Address::parse(text).is_ok() {
            Self {
                version: 2,
                address: text.to_owned(),
                protocol: "ttrpc".to_owned(),
            }
        } else {
            let result = BootstrapResult::decode(output).map_err(|_| nonsense())?;
            if result.version <= 0 {
                return Err(nonsense());
            }
            Self {
                version: result.version.unsigned_abs(),
                address: result.address,
                protocol: result.protocol,
            }
        };
        let version = parsed.version();
        version.ok_or_else(|| ShimError::Protocol {
            protocol: parsed.protocol.clone(),
            version: parsed.version,
        })?;
        match parsed.address() {
            Ok(_) => Ok(parsed),
            Err(_) => Err(nonsense()),
        }
    }

    /// Where it serves.
    ///
    /// # Errors
    /// [`ShimError::Address`].
    pub fn address(&self) -> Result<Address, ShimError> {
        Address::parse(&self.address)
    }

    /// What it serves; `None` when that is nothing for us.
    pub fn version(&self) -> Option<Version> {
        match (self.protocol.as_str(), self.version) {
            ("ttrpc" | "", 2) => Some(Version::V2),
            ("ttrpc" | "", 3) => Some(Version::V3),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_answers_are_understood() {
        let plain = Bootstrap::parse(b"unix:///run/containerd/s/12\n").unwrap();
        assert_eq!(plain.version(), Some(Version::V2));
        assert_eq!(
            plain.address().unwrap().as_str(),
            "unix:///run/containerd/s/12"
        );
        let json = br#"{"version":3,"address":"unix:///run/s","protocol":"ttrpc"}"#;
        let json = Bootstrap::parse(json).unwrap();
        assert_eq!(json.version(), Some(Version::V3));
        let message = BootstrapResult {
            version: 3,
            address: "unix:///run/s".into(),
            protocol: "ttrpc".into(),
        };
        assert_eq!(Bootstrap::parse(&message.encode_to_vec()).unwrap(), json);
        let written = serde_json::to_vec(&json).unwrap();
        assert_eq!(Bootstrap::parse(&written).unwrap(), json);
    }

    #[test]
    fn other_answers_are_refused() {
        let grpc = br#"{"version":3,"address":"unix:///run/s","protocol":"grpc"}"#;
        let newer = br#"{"version":4,"address":"unix:///run/s","protocol":"ttrpc"}"#;
        for foreign in [&grpc[..], &newer[..]] {
            let error = Bootstrap::parse(foreign).unwrap_err();
            assert!(matches!(error, ShimError::Protocol { .. }), "{error}");
        }
        let garbage = vec![b'x'; 1 << 20];
        for nonsense in [&b""[..], b"{", b"panic: no kernel\n", b"\x08\x03", &garbage] {
            let error = Bootstrap::parse(nonsense).unwrap_err();
            assert!(matches!(error, ShimError::Bootstrap { .. }), "{error}");
            assert!(error.to_string().len() < 300);
        }
    }

    #[test]
    fn newer_shims_are_known_by_their_complaint() {
        assert!(wants_parameters(
            "io.containerd.runc.v2: shim was started through the deprecated API but was built against the new API; if \
             you upgraded containerd, you may need to restart the daemon"
        ));
        assert!(!wants_parameters("there is no such hypervisor"));
    }

    #[test]
    fn arguments_are_those_of_the_specification() {
        let invocation = Invocation {
            namespace: "default",
            id: "0a",
            bundle: Path::new("/b"),
            publisher: Path::new("/p"),
            debug: true,
        };
        assert_eq!(
            invocation.arguments(Action::Start).join(" "),
            "-namespace default -address  -publish-binary /p -id 0a -debug start"
        );
        assert_eq!(
            invocation.arguments(Action::Delete).join(" "),
            "-namespace default -address  -publish-binary /p -id 0a -debug -bundle /b delete"
        );
    }
}
