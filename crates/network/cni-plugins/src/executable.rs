//! A plugin as a program: parameters from the environment, configuration from standard input,
//! result or error on standard output.

use std::env;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crioxide_cni::{
    Call, Fate, History, Maker, Plugin, PluginError, PluginSource, Plugins, Preference,
    SpecVersion, error_code,
};
use serde_json::{Map, Value, json};

use crate::Builtin;

/// A configuration with its previous result is a few kilobytes.
const INPUT_LIMIT: u64 = 4 * 1024 * 1024;
/// The caller has its own deadline and kills the program; this one only bounds waits for locks.
const DEADLINE: Duration = Duration::from_mins(2);

/// The program's parameters.
struct Parameters {
    command: String,
    container_id: String,
    netns: Option<PathBuf>,
    ifname: String,
    args: Vec<(String, String)>,
    path: Vec<PathBuf>,
}

/// Runs the plugin called `plugin_type` as the CNI protocol asks by environment and standard input,
/// and returns the exit code.
pub fn run_as_executable(plugin_type: &str) -> u8 {
    let mut input = Vec::new();
    let answered = io::stdin()
        .lock()
        .take(INPUT_LIMIT)
        .read_to_end(&mut input)
        .map_err(|error| PluginError::caused(plugin_type, error_code::IO_FAILURE, &error))
        .and_then(|_| answer(plugin_type, &Parameters::from_environment(), &input));
    let (text, code) = match answered {
        Ok(Some(value)) => (value.to_string(), 0),
        Ok(None) => (String::new(), 0),
        Err(error) => (error_object(&error, &input).to_string(), 1),
    };
    let mut stdout = io::stdout().lock();
    let written = if text.is_empty() {
        Ok(())
    } else {
        writeln!(stdout, "{text}")
    };
    if written.and_then(|()| stdout.flush()).is_err() {
        1
    } else {
        code
    }
}

impl Parameters {
    fn from_environment() -> Self {
        let read = |key: &str| env::var(key).unwrap_or_default();
        let args = read("CNI_ARGS");
        let path = env::var_os("CNI_PATH").unwrap_or_default();
        Self {
            command: read("CNI_COMMAND"),
            container_id: read("CNI_CONTAINERID"),
            netns: Some(PathBuf::from(read("CNI_NETNS")))
                .filter(|path| !path.as_os_str().is_empty()),
            ifname: read("CNI_IFNAME"),
            args: args
                .split(';')
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            path: env::split_paths(&path)
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
        }
    }

    /// The specification says which verb needs what.
    fn check(&self, plugin_type: &str) -> Result<(), PluginError> {
        let required: &[(&str, bool)] = match self.command.as_str() {
            "ADD" | "CHECK" => &[
                ("CNI_CONTAINERID", self.container_id.is_empty()),
                ("CNI_NETNS", self.netns.is_none()),
                ("CNI_IFNAME", self.ifname.is_empty()),
            ],
            "DEL" => &[
                ("CNI_CONTAINERID", self.container_id.is_empty()),
                ("CNI_IFNAME", self.ifname.is_empty()),
            ],
            "STATUS" | "GC" | "VERSION" => &[],
            other => {
                let message = format!("unknown CNI_COMMAND `{}`", other.escape_default());
                return Err(PluginError::reported(
                    plugin_type,
                    error_code::INVALID_ENVIRONMENT,
                    message,
                ));
            }
        };
        let missing: Vec<_> = required
            .iter()
            .filter(|(_, missing)| *missing)
            .map(|(name, _)| *name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "required environment variables missing: {}",
            missing.join(", ")
        );
        Err(PluginError::reported(
            plugin_type,
            error_code::INVALID_ENVIRONMENT,
            message,
        ))
    }
}

fn answer(
    plugin_type: &str,
    parameters: &Parameters,
    input: &[u8],
) -> Result<Option<Value>, PluginError> {
    parameters.check(plugin_type)?;
    let plugin = Builtin::default().plugin(plugin_type).ok_or_else(|| {
        PluginError::reported(
            plugin_type,
            error_code::NOT_AVAILABLE,
            format!("there is no built-in plugin `{plugin_type}`"),
        )
    })?;
    if parameters.command == "VERSION" {
        return Ok(Some(json!({
            "cniVersion": SpecVersion::LATEST.as_str(),
            "supportedVersions": crate::configuration::versions(),
        })));
    }
    let config: Map<String, Value> = serde_json::from_slice(input).map_err(|error| {
        PluginError::reported(
            plugin_type,
            error_code::DECODING_FAILURE,
            format!("read network configuration: {error}"),
        )
    })?;
    let version = config
        .get("cniVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let version: SpecVersion = version.parse().map_err(|error| {
        PluginError::caused(plugin_type, error_code::INCOMPATIBLE_VERSION, &error)
    })?;
    let plugins = Plugins::new(
        parameters.path.clone(),
        Arc::new(Builtin::default()),
        Preference::Executable,
    );
    let call = Call {
        container_id: &parameters.container_id,
        netns: parameters
            .netns
            .as_deref()
            .filter(|path| *path != Path::new("")),
        ifname: &parameters.ifname,
        args: &parameters.args,
        config,
        version,
        deadline: Instant::now() + DEADLINE,
        plugins: &plugins,
        history: History::Unknown,
        maker: Maker::Unknown,
        fate: Fate::Kept,
    };
    dispatch(plugin.as_ref(), &parameters.command, &call)
}

fn dispatch(
    plugin: &dyn Plugin,
    command: &str,
    call: &Call<'_>,
) -> Result<Option<Value>, PluginError> {
    match command {
        "ADD" => plugin.add(call).map(Some),
        "DEL" => plugin.del(call).map(|()| None),
        "CHECK" => plugin.check(call).map(|()| None),
        "STATUS" => plugin.status(call).map(|()| None),
        _ => plugin.gc(call).map(|()| None),
    }
}

/// An error as the protocol wants it.
fn error_object(error: &PluginError, input: &[u8]) -> Value {
    let config: Option<Value> = serde_json::from_slice(input).ok();
    let version = config
        .as_ref()
        .and_then(|config| config.get("cniVersion"))
        .and_then(Value::as_str);
    let mut object = match error {
        PluginError::Reported {
            code,
            message,
            details,
            ..
        } => json!({"code": code, "msg": message, "details": details}),
        other => {
            let cause = std::error::Error::source(other)
                .map(ToString::to_string)
                .unwrap_or_default();
            json!({"code": error_code::FAILED, "msg": other.to_string(), "details": cause})
        }
    };
    object["cniVersion"] = json!(version.unwrap_or(SpecVersion::LATEST.as_str()));
    object
}

#[cfg(test)]
mod tests;
