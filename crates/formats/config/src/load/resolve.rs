//! Defaults, files and overrides -> [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::check;
use crate::diagnostic::{ConfigError, Origin, Warning};
use crate::load::finish::{self, Declared};
use crate::load::merge::{self, PLUGIN_DIRS, STORAGE_OPTION};
use crate::load::overrides::{self, Override};
use crate::load::raw::{ConfigFile, RawConfig, RawWorkload, Settings};
use crate::load::runtimes_flag;
use crate::option::OptionSpec;
use crate::tables::{self, Config, RuntimeHandler, Workload, WorkloadResources};
use crate::value::{OptionValue, Value};

/// Defaults that depend on the machine: what storage.conf says and whether SELinux is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDefaults {
    pub root: PathBuf,
    pub runroot: PathBuf,
    /// Empty when storage.conf names none.
    pub storage_driver: String,
    /// As `driver.key=value`.
    pub storage_options: Vec<String>,
    pub selinux_enabled: bool,
}

impl Default for HostDefaults {
    fn default() -> Self {
        let config = Config::default();
        Self {
            root: config.root.root,
            runroot: config.root.runroot,
            storage_driver: String::new(),
            storage_options: Vec::new(),
            selinux_enabled: false,
        }
    }
}

/// A configuration that passed every static check.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// In the order of their discovery.
    pub warnings: Vec<Warning>,
}

/// Where each key was set.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(crate) fn of(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or(Origin::Default)
    }

    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn refuse(
        &self,
        key: &str,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> ConfigError {
        ConfigError::InvalidValue {
            origin: self.of(key),
            key: key.to_owned(),
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}

/// Resolves `files`, given lowest first, below `overrides`.
///
/// # Errors
/// The first thing that CRI-O would refuse: syntax, a wrong type, an invalid value.
pub fn resolve(
    host: &HostDefaults,
    files: &[ConfigFile],
    overrides: &[Override],
) -> Result<Loaded, ConfigError> {
    let mut raw = merge::merge(files)?;
    lay_overrides(&mut raw, host, overrides)?;
    let mut origins = Origins::default();
    let mut config = defaults_on(host);
    apply_settings(&mut config, &raw, &mut origins)?;
    let mut warnings = std::mem::take(&mut raw.warnings);
    warn_deprecated(&raw, &mut warnings);

    let handlers = resolve_handlers(&mut config, &raw.runtimes, &mut origins, &mut warnings)?;
    resolve_workloads(&mut config, &raw.workloads, &mut origins)?;
    finish::finish(
        &mut config,
        &Declared {
            handlers,
            origins: &origins,
        },
        &mut warnings,
    )?;
    check::check(&mut config, &origins, &mut warnings)?;
    Ok(Loaded { config, warnings })
}

pub(crate) fn defaults_on(host: &HostDefaults) -> Config {
    let mut config = Config::default();
    config.root.root.clone_from(&host.root);
    config.root.runroot.clone_from(&host.runroot);
    config.root.storage_driver.clone_from(&host.storage_driver);
    config.root.storage_option = merge::keep_last(host.storage_options.clone());
    config.runtime.selinux = host.selinux_enabled;
    config
}

fn lay_overrides(
    raw: &mut RawConfig,
    host: &HostDefaults,
    overrides: &[Override],
) -> Result<(), ConfigError> {
    if let Some(setting) = raw.settings.get_mut(STORAGE_OPTION)
        && let Value::List(items) = &setting.value
    {
        let all = host.storage_options.iter().chain(items).cloned().collect();
        setting.value = Value::List(merge::keep_last(all));
    }
    if let Some(legacy) = &raw.plugin_dir {
        let setting = raw
            .settings
            .entry(PLUGIN_DIRS.to_owned())
            .or_insert_with(|| {
                let mut setting = legacy.clone();
                setting.value = Config::default().network.plugin_dirs.to_value();
                setting
            });
        if let (Value::List(directories), Value::Text(directory)) =
            (&mut setting.value, &legacy.value)
        {
            directories.push(directory.clone());
        }
    }
    for given in overrides {
        if given.key == "runtimes" {
            let Value::List(items) = &given.value else {
                continue;
            };
            for item in items {
                let (name, settings) =
                    runtimes_flag::parse(item, &given.origin).map_err(|reason| {
                        ConfigError::InvalidValue {
                            origin: given.origin.clone(),
                            key: "crio.runtime.runtimes".to_owned(),
                            value: item.clone(),
                            reason,
                        }
                    })?;
                raw.runtimes.insert(name, settings);
            }
        } else if overrides::find(&given.key).is_some() {
            raw.settings
                .insert(given.key.clone(), given.clone().into_setting());
        }
    }
    Ok(())
}

/// Keys for which an empty text means "as if not given".
const INHERITED_WHEN_EMPTY: [&str; 3] = ["crio.root", "crio.runroot", "crio.storage_driver"];

fn apply_settings(
    config: &mut Config,
    raw: &RawConfig,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    for option in tables::options() {
        let key = option.path();
        let Some(setting) = raw.settings.get(&key) else {
            continue;
        };
        if INHERITED_WHEN_EMPTY.contains(&key.as_str())
            && setting.value == Value::Text(String::new())
        {
            continue;
        }
        origins.0.insert(key.clone(), setting.origin.clone());
        option
            .set(config, &setting.value)
            .map_err(|invalid| origins.refuse(&key, &setting.value, invalid.reason))?;
    }
    Ok(())
}

fn warn_deprecated(raw: &RawConfig, warnings: &mut Vec<Warning>) {
    for option in tables::options() {
        if let (Some(instead), Some(setting)) = (option.deprecated, raw.settings.get(&option.path()))
            // CRI-O's own template writes these keys with their defaults.
            && setting.value != option.default.to_value()
        {
            warnings.push(Warning::Deprecated {
                origin: setting.origin.clone(),
                key: option.path(),
                instead,
            });
        }
    }
}

/// Gives the names of the handlers that somebody declared.
fn resolve_handlers(
    config: &mut Config,
    raw: &BTreeMap<String, Settings>,
    origins: &mut Origins,
    warnings: &mut Vec<Warning>,
) -> Result<BTreeSet<String>, ConfigError> {
    for (name, settings) in raw {
        let path = format!("crio.runtime.runtimes.{name}");
        let mut handler = RuntimeHandler::default();
        match fill(
            &mut handler,
            RuntimeHandler::OPTIONS,
            settings,
            &path,
            origins,
        ) {
            Ok(()) => {
                config.runtimes.insert(name.clone(), handler);
            }
            Err(error) if *name == config.runtime.default_runtime => return Err(error),
            Err(error) => {
                config.runtimes.remove(name);
                warnings.push(Warning::HandlerIgnored {
                    handler: name.clone(),
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok(raw.keys().cloned().collect())
}

fn resolve_workloads(
    config: &mut Config,
    raw: &BTreeMap<String, RawWorkload>,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    for (name, entry) in raw {
        let path = format!("crio.runtime.workloads.{name}");
        let mut workload = Workload::default();
        fill(
            &mut workload,
            Workload::OPTIONS,
            &entry.settings,
            &path,
            origins,
        )?;
        let resources = &mut workload.resources;
        fill(
            resources,
            WorkloadResources::OPTIONS,
            &entry.resources,
            &format!("{path}.resources"),
            origins,
        )?;
        config.workloads.insert(name.clone(), workload);
    }
    Ok(())
}

fn fill<Owner>(
    owner: &mut Owner,
    options: &[OptionSpec<Owner>],
    settings: &Settings,
    path: &str,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    for (key, setting) in settings {
        let Some(option) = options.iter().find(|option| option.key == key) else {
            continue;
        };
        let key = format!("{path}.{key}");
        origins.0.insert(key.clone(), setting.origin.clone());
        option
            .set(owner, &setting.value)
            .map_err(|invalid| origins.refuse(&key, &setting.value, invalid.reason))?;
    }
    Ok(())
}
