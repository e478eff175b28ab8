//! Checks of `[crio.runtime.runtimes.<handler>]`.

use std::path::Path;

use crate::annotations;
use crate::diagnostic::{ConfigError, Warning};
use crate::load::finish::is_shim_name;
use crate::load::resolve::Origins;
use crate::tables::{Config, RuntimeBinary, RuntimeHandler};
use crate::value::choice::{CgroupManager, HandlerType};

/// A broken default handler is an error; any other broken handler is dropped with a warning.
pub(super) fn check(
    config: &mut Config,
    origins: &Origins,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    let default = config.runtime.default_runtime.clone();
    let manager = config.runtime.cgroup_manager;
    let mut broken = Vec::new();
    for (name, handler) in &config.runtimes {
        if let Err((key, value, reason)) = check_handler(handler, manager) {
            let error = origins.refuse(
                &format!("crio.runtime.runtimes.{name}.{key}"),
                value,
                reason,
            );
            if *name == default {
                return Err(error);
            }
            broken.push((name.clone(), error.to_string()));
        } else if handler.minimum_memory_bytes().is_none() {
            warnings.push(Warning::Adjusted {
                origin: origins.of(&format!(
                    "crio.runtime.runtimes.{name}.container_min_memory"
                )),
                key: format!("crio.runtime.runtimes.{name}.container_min_memory"),
                given: handler.container_min_memory.clone(),
                used: "no limit".to_owned(),
                reason: "not a memory size",
            });
        }
    }
    for (handler, reason) in broken {
        config.runtimes.remove(&handler);
        warnings.push(Warning::HandlerIgnored { handler, reason });
    }
    Ok(())
}

type Refusal = (&'static str, String, String);

fn check_handler(handler: &RuntimeHandler, manager: CgroupManager) -> Result<(), Refusal> {
    check_vm(handler)?;
    check_monitor(handler, manager)?;
    if handler.no_sync_log && handler.runtime_type != HandlerType::Oci {
        return Err((
            "no_sync_log",
            "true".to_owned(),
            "no_sync_log is only allowed with runtime type 'oci'".to_owned(),
        ));
    }
    if handler.stream_websockets && handler.runtime_type != HandlerType::Pod {
        let reason = "stream_websockets is only allowed with runtime type 'pod'";
        return Err(("stream_websockets", "true".to_owned(), reason.to_owned()));
    }
    if !matches!(handler.exec_cpu_affinity.as_str(), "" | "first") {
        let value = handler.exec_cpu_affinity.clone();
        return Err((
            "exec_cpu_affinity",
            value.clone(),
            format!("invalid exec_cpu_affinity {value:?}"),
        ));
    }
    if !matches!(handler.monitor_exec_cgroup.as_str(), "" | "container") {
        let value = handler.monitor_exec_cgroup.clone();
        return Err((
            "monitor_exec_cgroup",
            value,
            "monitor exec cgroup should be 'container' or empty".to_owned(),
        ));
    }
    if let Some((platform, path)) = handler
        .platform_runtime_paths
        .iter()
        .find(|(_, path)| !Path::new(path).is_absolute())
    {
        let reason = format!("the path for {platform:?} must be absolute");
        return Err(("platform_runtime_paths", path.clone(), reason));
    }
    match handler
        .allowed_annotations
        .iter()
        .find(|name| !annotations::is_known(name))
    {
        Some(unknown) => Err((
            "allowed_annotations",
            unknown.clone(),
            format!("unrecognized allowed annotation {unknown:?}"),
        )),
        None => Ok(()),
    }
}

fn check_vm(handler: &RuntimeHandler) -> Result<(), Refusal> {
    let path = handler.runtime_path.clone();
    if handler.runtime_type == HandlerType::Vm {
        return match &handler.binary {
            RuntimeBinary::Builtin => Err((
                "runtime_path",
                path,
                "runtime type 'vm' needs a containerd shim, not the built-in runtime".to_owned(),
            )),
            RuntimeBinary::Path(shim) if !is_shim_name(shim) => Err((
                "runtime_path",
                path,
                "a containerd shim is named `containerd-shim-<name>`".to_owned(),
            )),
            _ => Ok(()),
        };
    }
    if let Some(file) = &handler.runtime_config_path {
        let reason = "runtime_config_path can only be used with the 'vm' runtime type";
        return Err((
            "runtime_config_path",
            file.display().to_string(),
            reason.to_owned(),
        ));
    }
    if handler.runtime_pull_image {
        let reason = "runtime_pull_image can only be used with the 'vm' runtime type";
        return Err(("runtime_pull_image", "true".to_owned(), reason.to_owned()));
    }
    if let RuntimeBinary::Path(path) = &handler.binary
        && !Path::is_absolute(path)
    {
        return Err((
            "runtime_path",
            path.display().to_string(),
            "runtime_path must be absolute".to_owned(),
        ));
    }
    Ok(())
}

fn check_monitor(handler: &RuntimeHandler, manager: CgroupManager) -> Result<(), Refusal> {
    if handler.runtime_type != HandlerType::Oci {
        return Ok(());
    }
    let cgroup = handler.monitor_cgroup.as_str();
    let reason = match manager {
        CgroupManager::Systemd if cgroup == "pod" || cgroup.ends_with(".slice") => return Ok(()),
        CgroupManager::Systemd => "conmon cgroup should be 'pod' or a systemd slice".to_owned(),
        CgroupManager::Cgroupfs if matches!(cgroup, "" | "pod") => return Ok(()),
        CgroupManager::Cgroupfs => {
            format!("cgroupfs manager conmon cgroup should be 'pod' or empty, but got: '{cgroup}'")
        }
    };
    Err(("monitor_cgroup", cgroup.to_owned(), reason))
}
