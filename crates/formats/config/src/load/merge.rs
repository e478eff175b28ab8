//! Files on top of each other.

use crate::diagnostic::{ConfigError, Warning};
use crate::load::raw::{ConfigFile, RawConfig, Setting, Settings, parse};
use crate::value::Value;

pub(crate) const STORAGE_OPTION: &str = "crio.storage_option";
pub(crate) const PLUGIN_DIRS: &str = "crio.network.plugin_dirs";

/// Parses `files` and lays each over those before it.
pub(crate) fn merge(files: &[ConfigFile]) -> Result<RawConfig, ConfigError> {
    let mut merged = RawConfig::default();
    for file in files {
        lay_over(&mut merged, parse(file)?);
    }
    Ok(merged)
}

fn lay_over(below: &mut RawConfig, above: RawConfig) {
    for (key, setting) in above.settings {
        if key == STORAGE_OPTION {
            append(&mut below.settings, key, setting);
        } else {
            below.settings.insert(key, setting);
        }
    }
    // A handler or workload that is declared again replaces the whole earlier entry.
    below.runtimes.extend(above.runtimes);
    below.workloads.extend(above.workloads);
    if let Some(setting) = above.plugin_dir {
        below.warnings.push(Warning::Deprecated {
            origin: setting.origin.clone(),
            key: "crio.network.plugin_dir".to_owned(),
            instead: "plugin_dirs",
        });
        below.plugin_dir = Some(setting);
    }
    below.warnings.extend(above.warnings);
}

/// Adds the entries of a list to those already there.
fn append(settings: &mut Settings, key: String, above: Setting) {
    let mut items = match settings.remove(&key) {
        Some(Setting {
            value: Value::List(items),
            ..
        }) => items,
        _ => Vec::new(),
    };
    if let Value::List(added) = above.value {
        items.extend(added);
    }
    settings.insert(
        key,
        Setting {
            value: Value::List(items),
            origin: above.origin,
        },
    );
}

/// Drops earlier copies of entries that occur again.
pub(crate) fn keep_last(items: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        kept.retain(|earlier| *earlier != item);
        kept.push(item);
    }
    kept
}
