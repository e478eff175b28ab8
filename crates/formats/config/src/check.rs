//! Checks that need no host: shapes, ranges, and keys that must fit each other.

mod api;
mod handlers;
mod names;
mod runtime;
mod workloads;

use std::path::Path;

use crate::diagnostic::{ConfigError, Warning};
use crate::load::resolve::Origins;
use crate::tables::{Config, METRICS_COLLECTORS};

pub(crate) fn check(
    config: &mut Config,
    origins: &Origins,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    absolute(
        &config.root.log_dir,
        "crio.log_dir",
        "log_dir is not an absolute path",
        origins,
    )?;
    check_storage_driver(config, origins)?;
    api::check(config, origins, warnings)?;
    runtime::check(config, origins)?;
    handlers::check(config, origins, warnings)?;
    workloads::check(config, origins)?;
    absolute(
        &config.image.namespaced_auth_dir,
        "crio.image.namespaced_auth_dir",
        "namespaced_auth_dir is not an absolute path",
        origins,
    )?;
    absolute(
        &config.image.signature_policy_dir,
        "crio.image.signature_policy_dir",
        "signature_policy_dir is not an absolute path",
        origins,
    )?;
    check_metrics(config, origins)?;
    check_stats(config, origins)
}

fn absolute(path: &Path, key: &str, reason: &str, origins: &Origins) -> Result<(), ConfigError> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(origins.refuse(key, path.display(), reason))
    }
}

fn check_storage_driver(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let driver = config.root.storage_driver.as_str();
    if matches!(
        driver,
        "" | "overlay" | "overlay2" | "vfs" | "btrfs" | "zfs" | "devicemapper" | "aufs"
    ) {
        return Ok(());
    }
    let reason = "unknown storage driver, expected overlay, vfs, btrfs, zfs, devicemapper or aufs";
    Err(origins.refuse("crio.storage_driver", driver, reason))
}

fn check_metrics(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    for collector in &config.metrics.metrics_collectors {
        let name = collector
            .strip_prefix("container_runtime_")
            .unwrap_or(collector);
        let name = name.strip_prefix("crio_").unwrap_or(name);
        if !METRICS_COLLECTORS.contains(&name) {
            let reason = format!("unknown metrics collector {collector:?}");
            return Err(origins.refuse("crio.metrics.metrics_collectors", collector, reason));
        }
    }
    Ok(())
}

/// Groups that `included_pod_metrics` may name beside `all`.
const POD_METRICS: &[&str] = &[
    "cpu", "disk", "diskIO", "hugetlb", "memory", "network", "oom", "process", "spec", "pressure",
];

fn check_stats(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let groups = &config.stats.included_pod_metrics;
    for group in groups {
        let alone = groups.len() == 1;
        let reason = match group.as_str() {
            "all" if alone => continue,
            "all" => "\"all\" must be the only entry".to_owned(),
            known if POD_METRICS.contains(&known) => continue,
            unknown => format!("invalid pod metric {unknown:?}"),
        };
        return Err(origins.refuse("crio.stats.included_pod_metrics", group, reason));
    }
    Ok(())
}
