//! Values that follow from other values: deprecated keys, inherited handlers, empty texts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::diagnostic::{ConfigError, Warning};
use crate::load::resolve::Origins;
use crate::tables::{BUILTIN_RUNTIME, Config, RuntimeBinary, RuntimeHandler};
use crate::value::choice::{CgroupManager, CheckpointLevel};

/// What the user said explicitly.
pub(crate) struct Declared<'o> {
    /// Handlers with a table or a `--runtimes` item.
    pub(crate) handlers: BTreeSet<String>,
    pub(crate) origins: &'o Origins,
}

/// The least stop timeout in seconds.
const MINIMUM_STOP_TIMEOUT: i64 = 30;
/// The least container creation timeout in seconds.
const MINIMUM_CREATE_TIMEOUT: i64 = 30;
const DEFAULT_CREATE_TIMEOUT: i64 = 240;
const DEFAULT_MESSAGE_SIZE: i64 = 80 * 1024 * 1024;

pub(crate) fn finish(
    config: &mut Config,
    declared: &Declared<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    raise_stop_timeout(config, declared, warnings);
    for size in [
        &mut config.api.grpc_max_send_msg_size,
        &mut config.api.grpc_max_recv_msg_size,
    ] {
        if *size <= 0 {
            *size = DEFAULT_MESSAGE_SIZE;
        }
    }
    if !config.runtime.enable_criu_support {
        config.checkpoint_restore.container_level_enabled = CheckpointLevel::None;
    }
    translate_conmon(config);
    fill_empty(config, declared, warnings);
    choose_binaries(config, declared);
    inherit_default(config, declared)?;
    place_monitors(config);
    Ok(())
}

fn raise_stop_timeout(config: &mut Config, declared: &Declared<'_>, warnings: &mut Vec<Warning>) {
    let given = config.runtime.ctr_stop_timeout;
    if given < MINIMUM_STOP_TIMEOUT {
        let key = "crio.runtime.ctr_stop_timeout";
        warnings.push(Warning::Adjusted {
            origin: declared.origins.of(key),
            key: key.to_owned(),
            given: given.to_string(),
            used: MINIMUM_STOP_TIMEOUT.to_string(),
            reason: "forcing ctr_stop_timeout to its lowest possible value",
        });
        config.runtime.ctr_stop_timeout = MINIMUM_STOP_TIMEOUT;
    }
}

/// The deprecated keys `conmon`, `conmon_cgroup` and `conmon_env` apply to every handler, except that `conmon` leaves
/// those alone that ask for the built-in monitor by name.
fn translate_conmon(config: &mut Config) {
    let runtime = &config.runtime;
    for handler in config.runtimes.values_mut() {
        let own = handler
            .monitor_path
            .as_ref()
            .is_some_and(|path| path.as_os_str() == BUILTIN_RUNTIME);
        if runtime.conmon.is_some() && !own {
            handler.monitor_path.clone_from(&runtime.conmon);
        }
        if !runtime.conmon_cgroup.is_empty() {
            handler.monitor_cgroup.clone_from(&runtime.conmon_cgroup);
        }
        if !runtime.conmon_env.is_empty() {
            handler.monitor_env.clone_from(&runtime.conmon_env);
        }
    }
}

fn fill_empty(config: &mut Config, declared: &Declared<'_>, warnings: &mut Vec<Warning>) {
    let defaults = RuntimeHandler::default();
    for (name, handler) in &mut config.runtimes {
        if handler.runtime_root.as_os_str().is_empty() {
            handler.runtime_root.clone_from(&defaults.runtime_root);
        }
        if handler.monitor_env.is_empty() {
            handler.monitor_env.clone_from(&defaults.monitor_env);
        }
        if handler.container_min_memory.is_empty() {
            handler
                .container_min_memory
                .clone_from(&defaults.container_min_memory);
        }
        let timeout = handler.container_create_timeout;
        if timeout == 0 {
            handler.container_create_timeout = DEFAULT_CREATE_TIMEOUT;
        } else if timeout < MINIMUM_CREATE_TIMEOUT {
            let key = format!("crio.runtime.runtimes.{name}.container_create_timeout");
            warnings.push(Warning::Adjusted {
                origin: declared.origins.of(&key),
                key,
                given: timeout.to_string(),
                used: MINIMUM_CREATE_TIMEOUT.to_string(),
                reason: "a container needs that long to be created",
            });
            handler.container_create_timeout = MINIMUM_CREATE_TIMEOUT;
        }
    }
}

/// The pre-filled handler runs the built-in runtime until somebody asks for the program `crun`: by declaring
/// the handler, by naming it as default, or by choosing a monitor program for it.
fn choose_binaries(config: &mut Config, declared: &Declared<'_>) {
    let conmon_chosen = config.runtime.conmon.is_some();
    let default_chosen = declared.origins.is_set("crio.runtime.default_runtime");
    for (name, handler) in &mut config.runtimes {
        let is_default = *name == config.runtime.default_runtime;
        let asked_for =
            declared.handlers.contains(name) || conmon_chosen || is_default && default_chosen;
        handler.binary = match handler.runtime_path.as_str() {
            "" if !asked_for => RuntimeBinary::Builtin,
            "" => RuntimeBinary::Search(name.clone()),
            BUILTIN_RUNTIME => RuntimeBinary::Builtin,
            path => RuntimeBinary::Path(PathBuf::from(path)),
        };
        if handler.binary == RuntimeBinary::Builtin {
            // No path leads to it, however it was chosen; `binary` alone tells.
            handler.runtime_path.clear();
        }
    }
}

fn inherit_default(config: &mut Config, declared: &Declared<'_>) -> Result<(), ConfigError> {
    let default_name = config.runtime.default_runtime.clone();
    let Some(default) = config.runtimes.get(&default_name).cloned() else {
        let reason = format!(
            "default_runtime set to {default_name:?}, but no runtime entry table \
             [crio.runtime.runtimes.{default_name}] was found"
        );
        return Err(declared
            .origins
            .refuse("crio.runtime.default_runtime", default_name, reason));
    };
    for handler in config
        .runtimes
        .values_mut()
        .filter(|handler| handler.inherit_default_runtime)
    {
        handler.runtime_path.clone_from(&default.runtime_path);
        handler.runtime_type = default.runtime_type;
        handler
            .runtime_config_path
            .clone_from(&default.runtime_config_path);
        handler.runtime_root.clone_from(&default.runtime_root);
        handler.binary = default.binary.clone();
    }
    Ok(())
}

/// Where a monitor goes when nothing is said depends on the cgroup driver.
pub(crate) fn place_monitors(config: &mut Config) {
    const SYSTEM_SLICE: &str = "system.slice";
    for handler in config.runtimes.values_mut() {
        match config.runtime.cgroup_manager {
            CgroupManager::Systemd if handler.monitor_cgroup.is_empty() => {
                handler.monitor_cgroup = SYSTEM_SLICE.to_owned();
            }
            CgroupManager::Cgroupfs if handler.monitor_cgroup == SYSTEM_SLICE => {
                handler.monitor_cgroup.clear()
            }
            _ => {}
        }
    }
}

/// Whether a shim has the name that its type demands: `containerd-shim-` and letters, digits, `-` or `+`.
pub(crate) fn is_shim_name(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix("containerd-shim-"))
        .is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-+".contains(&b))
        })
}
