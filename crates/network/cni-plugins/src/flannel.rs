//! Flannel's plugin: makes a configuration of the node's lease, and lets another plugin do the work.

mod lease;

use std::fs;
use std::path::{Path, PathBuf};

use crioxide_cni::{Call, Plugin, PluginError, error_code};
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::configuration::{invalid, read, versions};
use lease::Lease;

const NAME: &str = "flannel";
const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const DATA_DIR: &str = "/var/lib/cni/flannel";
const RECORD_LIMIT: u64 = 1024 * 1024;

/// Delegates to `bridge`, or to what the configuration says.
#[derive(Debug)]
pub(crate) struct Flannel;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default = "subnet_file")]
    subnet_file: PathBuf,
    #[serde(default = "data_dir")]
    data_dir: PathBuf,
    #[serde(default)]
    delegate: Map<String, Value>,
    #[serde(default)]
    ipam: Map<String, Value>,
    runtime_config: Option<Value>,
}

impl Plugin for Flannel {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys: Keys = read(NAME, call)?;
        let config = delegate_config(call, &keys)?;
        let record = record_path(call, &keys)?;
        let bytes = Value::Object(config.clone()).to_string();
        let write = || {
            fs::create_dir_all(&keys.data_dir)?;
            let options = AtomicOptions {
                mode: 0o600,
                sync: Sync::None,
            };
            atomic_write(&record, bytes.as_bytes(), options).map_err(std::io::Error::other)
        };
        write().map_err(|error| io(&error))?;
        delegate_type(&config).and_then(|kind| {
            call.plugins
                .find(kind)?
                .plugin
                .add(&delegate_call(call, config.clone()))
        })
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        let path = record_path(call, &keys)?;
        let Some(config) = recorded(&path)? else {
            return Ok(());
        };
        let kind = delegate_type(&config)?.to_owned();
        call.plugins
            .find(&kind)?
            .plugin
            .del(&delegate_call(call, config))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&error)),
            _ => Ok(()),
        }
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        let config = recorded(&record_path(call, &keys)?)?.ok_or_else(|| {
            let message = format!("there is no record of `{}`", call.container_id);
            PluginError::reported(NAME, error_code::FAILED, message)
        })?;
        let kind = delegate_type(&config)?.to_owned();
        call.plugins
            .find(&kind)?
            .plugin
            .check(&delegate_call(call, config))
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        // Without a lease no pod can be attached.
        Lease::read(&keys.subnet_file)
            .map(drop)
            .map_err(|reason| PluginError::reported(NAME, error_code::NOT_AVAILABLE, reason))
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        // The lease may be another one by now, or gone; then nothing can be said of addresses.
        let Ok(config) = delegate_config(call, &keys) else {
            return Ok(());
        };
        let kind = delegate_type(&config)?.to_owned();
        call.plugins
            .find(&kind)?
            .plugin
            .gc(&delegate_call(call, config))
    }

    fn restore(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        let Some(config) = recorded(&record_path(call, &keys)?)? else {
            return Ok(());
        };
        let kind = delegate_type(&config)?.to_owned();
        call.plugins
            .find(&kind)?
            .plugin
            .restore(&delegate_call(call, config))
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// The delegate's configuration: as given, completed from the lease.
fn delegate_config(call: &Call<'_>, keys: &Keys) -> Result<Map<String, Value>, PluginError> {
    let lease = Lease::read(&keys.subnet_file).map_err(|reason| {
        PluginError::reported(
            NAME,
            error_code::FAILED,
            format!("{reason}. Does flannel run on this node?"),
        )
    })?;
    let mut config = keys.delegate.clone();
    for key in ["name", "ipam"] {
        if config.contains_key(key) {
            return Err(invalid(NAME, format!("`delegate.{key}` is set by flannel")));
        }
    }
    let network = call.config.get("name").cloned().unwrap_or_default();
    config.insert("name".to_owned(), network);
    config.insert("cniVersion".to_owned(), json!(call.version.as_str()));
    let mut default = |key: &str, value: Value| {
        config.entry(key).or_insert(value);
    };
    default("type", json!("bridge"));
    default("ipMasq", json!(!lease.masquerades));
    default("mtu", json!(lease.mtu));
    if config.get("type") == Some(&json!("bridge")) {
        config.entry("isGateway").or_insert(json!(true));
    }
    let mut ipam = keys.ipam.clone();
    ipam.entry("type").or_insert(json!("host-local"));
    let ranges: Vec<_> = lease
        .subnets
        .iter()
        .map(|subnet| json!([{"subnet": subnet}]))
        .collect();
    ipam.insert("ranges".to_owned(), json!(ranges));
    let mut routes = match ipam.remove("routes") {
        Some(Value::Array(routes)) => routes,
        None => Vec::new(),
        Some(_) => return Err(invalid(NAME, "`ipam.routes` must be an array")),
    };
    routes.extend(lease.networks.iter().map(|network| json!({"dst": network})));
    ipam.insert("routes".to_owned(), Value::Array(routes));
    config.insert("ipam".to_owned(), Value::Object(ipam));
    if let Some(runtime) = &keys.runtime_config {
        config.insert("runtimeConfig".to_owned(), runtime.clone());
    }
    Ok(config)
}

fn delegate_type(config: &Map<String, Value>) -> Result<&str, PluginError> {
    config
        .get("type")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid(NAME, "`delegate.type` must be a string"))
}

/// The same call for the delegate, with the previous result.
fn delegate_call<'a>(call: &Call<'a>, mut config: Map<String, Value>) -> Call<'a> {
    for key in [
        "prevResult",
        "cni.dev/valid-attachments",
        "cni.dev/attachments",
    ] {
        if let Some(value) = call.config.get(key) {
            config.insert(key.to_owned(), value.clone());
        }
    }
    Call {
        config,
        ..call.clone()
    }
}

/// Where the delegate's configuration is kept for DEL.
fn record_path(call: &Call<'_>, keys: &Keys) -> Result<PathBuf, PluginError> {
    let id = call.container_id;
    if id.is_empty() || id.contains('/') || id.starts_with('.') {
        return Err(PluginError::reported(
            NAME,
            error_code::INVALID_ENVIRONMENT,
            "the container id is no file name",
        ));
    }
    Ok(keys.data_dir.join(id))
}

/// What was recorded at ADD; none when nothing is, or it is damaged, as after a power cut: then there
/// is nothing to go by.
fn recorded(path: &Path) -> Result<Option<Map<String, Value>>, PluginError> {
    let bytes = match read_limited(path, RECORD_LIMIT) {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes.map_err(|error| io(&error))?,
    };
    Ok(serde_json::from_slice(&bytes)
        .inspect_err(
            |error| tracing::warn!(%error, path = %path.display(), "flannel's record is damaged"),
        )
        .ok())
}

fn io(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::IO_FAILURE, error)
}

fn subnet_file() -> PathBuf {
    SUBNET_FILE.into()
}

fn data_dir() -> PathBuf {
    DATA_DIR.into()
}
