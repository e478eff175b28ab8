//! Checks of `[crio.runtime]`.

use super::names::{CAPABILITIES, ULIMITS};
use crate::diagnostic::ConfigError;
use crate::load::resolve::Origins;
use crate::tables::Config;
use crate::value::choice::CgroupManager;

/// The least container log that a monitor can handle: one read buffer of conmon.
const MINIMUM_LOG_SIZE: i64 = 8192;

pub(super) fn check(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let runtime = &config.runtime;
    each(
        &runtime.default_ulimits,
        "crio.runtime.default_ulimits",
        origins,
        check_ulimit,
    )?;
    each(
        &runtime.default_sysctls,
        "crio.runtime.default_sysctls",
        origins,
        check_sysctl,
    )?;
    each(
        &runtime.default_capabilities,
        "crio.runtime.default_capabilities",
        origins,
        check_capability,
    )?;
    each(
        &runtime.additional_devices,
        "crio.runtime.additional_devices",
        origins,
        check_device,
    )?;
    each(
        &runtime.default_env,
        "crio.runtime.default_env",
        origins,
        check_env,
    )?;
    for store in &runtime.additional_artifact_stores {
        if !store.is_absolute() {
            let reason = format!(
                "additional_artifact_stores entry must be absolute: \"{}\"",
                store.display()
            );
            return Err(origins.refuse(
                "crio.runtime.additional_artifact_stores",
                store.display(),
                reason,
            ));
        }
    }
    if (0..MINIMUM_LOG_SIZE).contains(&runtime.log_size_max) {
        let reason = format!("log size max should be negative or >= {MINIMUM_LOG_SIZE}");
        return Err(origins.refuse("crio.runtime.log_size_max", runtime.log_size_max, reason));
    }
    for (key, set) in [
        ("infra_ctr_cpuset", &runtime.infra_ctr_cpuset),
        ("shared_cpuset", &runtime.shared_cpuset),
    ] {
        check_cpuset(set)
            .map_err(|reason| origins.refuse(&format!("crio.runtime.{key}"), set, reason))?;
    }
    for (key, mappings) in [
        ("uid_mappings", &runtime.uid_mappings),
        ("gid_mappings", &runtime.gid_mappings),
    ] {
        check_mappings(mappings)
            .map_err(|reason| origins.refuse(&format!("crio.runtime.{key}"), mappings, reason))?;
    }
    check_pull_cgroup(config, origins)
}

fn each(
    items: &[String],
    key: &str,
    origins: &Origins,
    check: fn(&str) -> Result<(), String>,
) -> Result<(), ConfigError> {
    items
        .iter()
        .try_for_each(|item| check(item).map_err(|reason| origins.refuse(key, item, reason)))
}

/// `name=soft[:hard]`
fn check_ulimit(item: &str) -> Result<(), String> {
    let invalid = || format!("invalid ulimit argument: {item}");
    let (name, limits) = item.split_once('=').ok_or_else(invalid)?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let soft: i64 = soft.parse().map_err(|_| invalid())?;
    let hard: i64 = hard.parse().map_err(|_| invalid())?;
    // -1 is unlimited, so it is more than any number.
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(())
}

fn check_sysctl(item: &str) -> Result<(), String> {
    match item.split_once('=') {
        Some((key, value)) if key.is_empty() || key.trim() != key || value.trim() != value => {
            Err(format!(
                "{item:?} is not a valid sysctl: no blanks are allowed around its key and value"
            ))
        }
        Some(_) => Ok(()),
        None => Err(format!("{item:?} is not in key=value format")),
    }
}

fn check_capability(item: &str) -> Result<(), String> {
    let upper = item.to_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        Ok(())
    } else {
        Err(format!("unknown capability {item:?}"))
    }
}

/// `host[:container[:rwm]]`, where the second of two fields may be the mode already.
fn check_device(item: &str) -> Result<(), String> {
    let fields: Vec<&str> = item.split(':').collect();
    if fields.len() > 3 || !fields[0].starts_with("/dev/") {
        return Err(format!("{item} is not a valid device"));
    }
    match fields[1..] {
        [container] if is_device_mode(container) || container.starts_with("/dev/") => Ok(()),
        [container, _] if !container.starts_with("/dev/") => {
            Err(format!("{item} is not a valid device"))
        }
        [_, mode] if is_device_mode(mode) => Ok(()),
        [] => Ok(()),
        _ => Err(format!("invalid device mode: {item}")),
    }
}

fn is_device_mode(mode: &str) -> bool {
    !mode.is_empty()
        && mode.len() <= 3
        && mode
            .bytes()
            .all(|b| b"rwm".contains(&b) && mode.matches(char::from(b)).count() == 1)
}

fn check_env(item: &str) -> Result<(), String> {
    match item.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(()),
        _ => Err(format!("{item:?} is not in key=value format")),
    }
}

/// A list of CPUs such as `0-3,5`; empty is allowed.
pub(super) fn check_cpuset(text: &str) -> Result<(), String> {
    let number = |digits: &str| {
        digits
            .trim()
            .parse::<u32>()
            .map_err(|_| format!("invalid CPU set {text:?}"))
    };
    for part in text.split(',').filter(|_| !text.is_empty()) {
        match part.split_once('-') {
            Some((first, last)) if number(first)? > number(last)? => {
                return Err(format!("invalid CPU range {part:?}"));
            }
            Some(_) => {}
            None => {
                number(part)?;
            }
        }
    }
    Ok(())
}

/// `container:host:size[,...]`
fn check_mappings(text: &str) -> Result<(), String> {
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let numbers: Vec<_> = part.split(':').map(str::parse::<u32>).collect();
        if numbers.len() != 3 || numbers.iter().any(Result::is_err) {
            return Err(format!(
                "invalid id mapping {part:?}, expected container:host:size"
            ));
        }
    }
    Ok(())
}

fn check_pull_cgroup(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let cgroup = &config.runtime.separate_pull_cgroup;
    let reason = match config.runtime.cgroup_manager {
        _ if cgroup.is_empty() => return Ok(()),
        CgroupManager::Cgroupfs => {
            "separate pull cgroup is supported only with systemd cgroup manager"
        }
        CgroupManager::Systemd if cgroup == "pod" || cgroup.ends_with(".slice") => return Ok(()),
        CgroupManager::Systemd => "separate pull cgroup should be 'pod' or a systemd slice",
    };
    Err(origins.refuse("crio.runtime.separate_pull_cgroup", cgroup, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for good in [
            "/dev/fuse",
            "/dev/fuse:/dev/x",
            "/dev/fuse:rw",
            "/dev/fuse:/dev/x:rwm",
        ] {
            assert_eq!(check_device(good), Ok(()), "{good}");
        }
        assert!(
            check_device("/dev/fuse:/dev/x:rwz")
                .unwrap_err()
                .contains("invalid device mode")
        );
        assert!(
            check_device("/dev/fuse:/dev/x:rr")
                .unwrap_err()
                .contains("invalid device mode")
        );
        assert!(
            check_device("fuse")
                .unwrap_err()
                .contains("is not a valid device")
        );
        assert!(
            check_device("/dev/a:/dev/b:r:w")
                .unwrap_err()
                .contains("is not a valid device")
        );
    }

    #[test]
    fn ulimits() {
        for good in [
            "nofile=1024",
            "nofile=1024:2048",
            "core=-1:-1",
            "memlock=5:-1",
        ] {
            assert_eq!(check_ulimit(good), Ok(()), "{good}");
        }
        assert_eq!(
            check_ulimit("nosuch=1"),
            Err("invalid ulimit type: nosuch".to_owned())
        );
        assert_eq!(
            check_ulimit("nofile=3:2"),
            Err("ulimit soft limit must be less than or equal to hard limit: 3 > 2".to_owned())
        );
        assert!(check_ulimit("nofile").is_err());
        assert!(check_ulimit("nofile=x").is_err());
    }

    #[test]
    fn cpu_sets() {
        for good in ["", "0", "0-3,5", "1,2"] {
            assert_eq!(check_cpuset(good), Ok(()), "{good}");
        }
        for bad in ["x", "3-1", "1,", "1-"] {
            assert!(check_cpuset(bad).is_err(), "{bad}");
        }
    }
}
