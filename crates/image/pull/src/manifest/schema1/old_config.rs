//! Configurations by Docker before 1.8.3, which have to be written anew, with all the fields that later versions write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{go_time, or_default};

/// The first version whose configurations are taken as they are.
const FIRST_GOOD: [u64; 3] = [1, 8, 3];

#[derive(Deserialize, Serialize)]
struct Image {
    #[serde(default, deserialize_with = "or_default")]
    created: String,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    container: String,
    #[serde(default, deserialize_with = "or_default")]
    container_config: Config,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    docker_version: String,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    author: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Config>,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    architecture: String,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    variant: String,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    os: String,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    comment: String,
}

/// In the order in which it is written.
#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    #[serde(default, deserialize_with = "or_default")]
    domainname: String,
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    attach_stdin: bool,
    #[serde(default, deserialize_with = "or_default")]
    attach_stdout: bool,
    #[serde(default, deserialize_with = "or_default")]
    attach_stderr: bool,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    exposed_ports: BTreeMap<String, Empty>,
    #[serde(default, deserialize_with = "or_default")]
    tty: bool,
    #[serde(default, deserialize_with = "or_default")]
    open_stdin: bool,
    #[serde(default, deserialize_with = "or_default")]
    stdin_once: bool,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "or_default"
    )]
    args_escaped: bool,
    #[serde(default, deserialize_with = "or_default")]
    image: String,
    #[serde(default)]
    volumes: Option<BTreeMap<String, Empty>>,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "or_default"
    )]
    network_disabled: bool,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    mac_address: String,
    #[serde(default)]
    on_build: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "or_default"
    )]
    stop_signal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    shell: Vec<String>,
}

/// An object whose content does not matter.
#[derive(Deserialize, Serialize, Default)]
struct Empty {}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

/// The configuration as a later version would write it; `None` if a later version did.
pub(super) fn rewritten(config: &str) -> Result<Option<String>, serde_json::Error> {
    let mut image: Image = serde_json::from_str(config)?;
    if image.docker_version.is_empty() || !is_before(&image.docker_version, FIRST_GOOD) {
        return Ok(None);
    }
    image.created = go_time(&image.created);
    serde_json::to_string(&image).map(Some)
}

/// Compares numbers between dots; what is no number counts as 0.
fn is_before(version: &str, limit: [u64; 3]) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    for wanted in limit {
        let part: u64 = parts.next().unwrap_or(0);
        if part != wanted {
            return part < wanted;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_ones_are_written_anew() {
        for (version, old) in [
            ("1.8.2", true),
            ("1.6.0", true),
            ("0.9", true),
            ("1.8.3", false),
            ("1.10.0", false),
            ("17.03.1-ce", false),
        ] {
            let text =
                format!(r#"{{"docker_version":"{version}","created":"2015-01-01T00:00:00.10Z"}}"#);
            assert_eq!(rewritten(&text).unwrap().is_some(), old, "{version}");
        }
        assert_eq!(rewritten("{}").unwrap(), None);
    }

    #[test]
    fn all_fields_come_in_their_order() {
        let text = r#"{"docker_version":"1.6.0","os":"linux","created":"2015-01-01T00:00:00.10Z","config":{"Cmd":["sh"],"Env":null,"Unknown":1}}"#;
        let empty = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#;
        let with_cmd = empty.replace(r#""Cmd":null"#, r#""Cmd":["sh"]"#);
        let expected = format!(
            r#"{{"created":"2015-01-01T00:00:00.1Z","container_config":{empty},"docker_version":"1.6.0","config":{with_cmd},"os":"linux"}}"#
        );
        assert_eq!(rewritten(text).unwrap().unwrap(), expected);
    }
}
