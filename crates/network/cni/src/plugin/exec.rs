//! Plugins that are programs of their own: environment, standard streams, deadline.

mod child;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::plugin::{Call, Plugin, PluginError, Verb};
use crate::program::Finished;
use crate::{NetworkResult, SpecVersion};
use child::run;

/// A plugin's program.
#[derive(Debug, Clone)]
pub(crate) struct ExecPlugin {
    pub(crate) plugin_type: String,
    pub(crate) path: PathBuf,
}

/// What a failing plugin prints.
#[derive(Debug, Deserialize)]
struct ReportedError {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// What VERSION prints.
#[derive(Debug, Deserialize)]
struct VersionInfo {
    #[serde(default, rename = "supportedVersions")]
    supported_versions: Vec<String>,
}

impl Plugin for ExecPlugin {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let output = self.invoke(Verb::Add, call)?;
        let value: Value = serde_json::from_slice(&output)
            .map_err(|error| self.garbage(&output, &error.to_string()))?;
        let result = NetworkResult::parse(&value, call.version).map_err(|error| {
            let reason = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            self.garbage(&output, &reason)
        })?;
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        self.invoke(Verb::Del, call).map(drop)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        self.invoke(Verb::Check, call).map(drop)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        self.invoke(Verb::Status, call).map(drop)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        self.invoke(Verb::Gc, call).map(drop)
    }

    fn versions(&self, call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        let output = self.invoke(Verb::Version, call)?;
        let info: VersionInfo = serde_json::from_slice(&output)
            .map_err(|error| self.garbage(&output, &error.to_string()))?;
        Ok(info.supported_versions)
    }
}

impl ExecPlugin {
    fn invoke(&self, verb: Verb, call: &Call<'_>) -> Result<Vec<u8>, PluginError> {
        let stdin = match verb {
            Verb::Version => json!({"cniVersion": SpecVersion::LATEST.as_str()})
                .to_string()
                .into_bytes(),
            _ => Value::Object(call.config.clone()).to_string().into_bytes(),
        };
        let environment = environment(verb, call);
        let finished = run(self, &environment, &stdin, verb, call.deadline)?;
        tracing::debug!(plugin = %self.plugin_type, ?verb, status = %finished.status, "CNI plugin finished");
        if finished.status.success() {
            Ok(finished.stdout)
        } else {
            Err(self.failure(&finished))
        }
    }

    fn failure(&self, finished: &Finished) -> PluginError {
        if let Ok(error) = serde_json::from_slice::<ReportedError>(&finished.stdout) {
            return PluginError::Reported {
                plugin: self.plugin_type.clone(),
                code: error.code,
                message: error.msg,
                details: error.details,
            };
        }
        let said = if finished.stderr.is_empty() {
            &finished.stdout
        } else {
            &finished.stderr
        };
        PluginError::Ended {
            plugin: self.plugin_type.clone(),
            status: finished.status.to_string(),
            output: excerpt(said),
        }
    }

    fn garbage(&self, output: &[u8], reason: &str) -> PluginError {
        PluginError::Garbage {
            plugin: self.plugin_type.clone(),
            reason: format!("{reason}; it printed: {}", excerpt(output)),
        }
    }
}

/// The variables a plugin is started with, on top of the inherited ones.
fn environment(verb: Verb, call: &Call<'_>) -> Vec<(&'static str, String)> {
    let command = match verb {
        Verb::Add => "ADD",
        Verb::Del => "DEL",
        Verb::Check => "CHECK",
        Verb::Status => "STATUS",
        Verb::Gc => "GC",
        Verb::Version => "VERSION",
    };
    let args: Vec<_> = call
        .args
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    vec![
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", call.container_id.to_owned()),
        (
            "CNI_NETNS",
            call.netns
                .unwrap_or(Path::new(""))
                .to_string_lossy()
                .into_owned(),
        ),
        ("CNI_IFNAME", call.ifname.to_owned()),
        ("CNI_ARGS", args.join(";")),
        ("CNI_PATH", call.plugins.search_path()),
    ]
}

/// The beginning of foreign output, on one line, for an error message.
fn excerpt(output: &[u8]) -> String {
    const LIMIT: usize = 400;
    let text = String::from_utf8_lossy(&output[..output.len().min(LIMIT)]);
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.is_empty() {
        "nothing".clone_into(&mut line);
    } else if output.len() > LIMIT {
        line.push('…');
    }
    line
}
