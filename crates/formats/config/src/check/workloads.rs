//! Checks of `[crio.runtime.workloads.<name>]`.

use super::runtime::check_cpuset;
use crate::annotations;
use crate::diagnostic::ConfigError;
use crate::load::resolve::Origins;
use crate::tables::Config;

/// The shortest CPU period that the kernel takes, in microseconds.
const MINIMUM_CPU_PERIOD: u64 = 1000;

pub(super) fn check(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    for (name, workload) in &config.workloads {
        let key = |key: &str| format!("crio.runtime.workloads.{name}.{key}");
        if workload.activation_annotation.is_empty() {
            let reason = format!("annotation shouldn't be empty for workload {name:?}");
            return Err(origins.refuse(&key("activation_annotation"), "", reason));
        }
        if let Some(unknown) = workload
            .allowed_annotations
            .iter()
            .find(|name| !annotations::is_known(name))
        {
            let reason = format!("unrecognized allowed annotation {unknown:?}");
            return Err(origins.refuse(&key("allowed_annotations"), unknown, reason));
        }
        let resources = &workload.resources;
        check_cpuset(&resources.cpuset).map_err(|reason| {
            origins.refuse(&key("resources.cpuset"), &resources.cpuset, reason)
        })?;
        if resources.cpuperiod != 0 && resources.cpuperiod < MINIMUM_CPU_PERIOD {
            let reason = format!("cpuperiod must be at least {MINIMUM_CPU_PERIOD} microseconds");
            return Err(origins.refuse(&key("resources.cpuperiod"), resources.cpuperiod, reason));
        }
        if resources.cpulimit < 0 {
            return Err(origins.refuse(
                &key("resources.cpulimit"),
                resources.cpulimit,
                "cpulimit must not be negative",
            ));
        }
    }
    Ok(())
}
