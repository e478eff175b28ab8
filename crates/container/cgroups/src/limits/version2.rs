//! OCI resources in the files of cgroup version 2.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxRdma, LinuxResources};

use super::{Absence, ApplyLimitsError, Setting, cpu_shares_to_weight, page_size_name};

pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, ApplyLimitsError> {
    let mut out = Vec::new();
    if let Some(values) = resources.cpu() {
        cpu(values, &mut out);
    }
    if let Some(values) = resources.memory() {
        memory(values, &mut out)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit())
        && limit != 0
    {
        out.push(Setting::new("pids", "pids.max", number_or_max(limit)));
    }
    if let Some(values) = resources.block_io() {
        block_io(values, &mut out);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = page_size_name(limit.page_size()).ok_or_else(|| ApplyLimitsError::Invalid {
            what: "huge page size",
            reason: format!("`{}` is not a size such as 2MB", limit.page_size()),
        })?;
        out.push(Setting::new(
            "hugetlb",
            &format!("hugetlb.{size}.max"),
            limit.limit(),
        ));
        out.push(
            Setting::new(
                "hugetlb",
                &format!("hugetlb.{size}.rsvd.max"),
                limit.limit(),
            )
            .or(Absence::Ignored),
        );
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        out.push(Setting::new("rdma", "rdma.max", rdma_line(device, limit)).or(Absence::Warning));
    }
    unified(resources, &mut out)?;
    Ok(out)
}

/// Memory plus swap below memory cannot hold; version 1 and 2 agree on that.
pub(super) fn check_swap(limit: Option<i64>, swap: Option<i64>) -> Result<(), ApplyLimitsError> {
    let Some(swap) = swap.filter(|swap| *swap > 0) else {
        return Ok(());
    };
    match limit {
        Some(limit) if limit > swap => Err(ApplyLimitsError::Invalid {
            what: "memory swap limit",
            reason: format!(
                "memory and swap together ({swap}) must not be less than memory ({limit})"
            ),
        }),
        _ => Ok(()),
    }
}

pub(super) fn rdma_line(device: &str, limit: &LinuxRdma) -> String {
    let mut line = device.to_owned();
    for (key, value) in [
        ("hca_handle", limit.hca_handles()),
        ("hca_object", limit.hca_objects()),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

fn cpu(values: &LinuxCpu, out: &mut Vec<Setting>) {
    if let Some(shares) = values.shares().filter(|shares| *shares != 0) {
        out.push(Setting::new(
            "cpu",
            "cpu.weight",
            cpu_shares_to_weight(shares),
        ));
    }
    if let Some(idle) = values.idle() {
        out.push(Setting::new("cpu", "cpu.idle", idle).or(Absence::Warning));
    }
    let quota = values.quota().filter(|quota| *quota != 0);
    let period = values.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = number_or_max(quota.unwrap_or(-1));
        out.push(Setting::new(
            "cpu",
            "cpu.max",
            format!("{quota} {}", period.unwrap_or(100_000)),
        ));
    }
    if let Some(burst) = values.burst() {
        out.push(Setting::new("cpu", "cpu.max.burst", burst).or(Absence::Warning));
    }
    for (file, list) in [
        ("cpuset.cpus", values.cpus()),
        ("cpuset.mems", values.mems()),
    ] {
        out.extend(
            list.as_deref()
                .filter(|l| !l.is_empty())
                .map(|list| Setting::new("cpuset", file, list)),
        );
    }
}

fn memory(values: &LinuxMemory, out: &mut Vec<Setting>) -> Result<(), ApplyLimitsError> {
    let limit = values.limit().filter(|v| *v != 0);
    let swap = values.swap().filter(|v| *v != 0);
    check_swap(limit, swap)?;
    // The OCI value counts memory and swap together, the file only swap.
    let swap_max = match (limit, swap) {
        (Some(-1), None) => Some(-1),
        (_, None) => None,
        (_, Some(swap)) if swap < 0 => Some(-1),
        (Some(limit), Some(swap)) if limit > 0 => Some(swap - limit),
        (_, Some(swap)) => {
            return Err(ApplyLimitsError::Invalid {
                what: "memory swap limit",
                reason: format!("memory and swap together ({swap}) need a memory limit"),
            });
        }
    };
    if let Some(swap) = swap_max {
        // Without swap in the kernel a limit of none or of infinity holds by itself.
        let absence = if swap <= 0 {
            Absence::Ignored
        } else {
            Absence::Warning
        };
        out.push(Setting::new("memory", "memory.swap.max", number_or_max(swap)).or(absence));
    }
    if let Some(limit) = limit {
        out.push(Setting::new("memory", "memory.max", number_or_max(limit)));
    }
    if let Some(reservation) = values.reservation().filter(|v| *v != 0) {
        out.push(Setting::new(
            "memory",
            "memory.low",
            number_or_max(reservation),
        ));
    }
    Ok(())
}

fn block_io(values: &LinuxBlockIo, out: &mut Vec<Setting>) {
    if let Some(weight) = values.weight().filter(|v| *v != 0) {
        out.push(Setting::new("io", "io.bfq.weight", weight).or(Absence::Ignored));
        // OCI's 10..=1000 stretched over the kernel's 1..=10000.
        let stretched = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
        out.push(Setting::new("io", "io.weight", stretched).or(Absence::Warning));
    }
    for device in values.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            out.push(Setting::new("io", "io.bfq.weight", line).or(Absence::Warning));
        }
    }
    let throttles = [
        ("rbps", values.throttle_read_bps_device()),
        ("wbps", values.throttle_write_bps_device()),
        ("riops", values.throttle_read_iops_device()),
        ("wiops", values.throttle_write_iops_device()),
    ];
    for (key, devices) in throttles {
        for device in devices.iter().flatten() {
            let line = format!(
                "{}:{} {key}={}",
                device.major(),
                device.minor(),
                device.rate()
            );
            out.push(Setting::new("io", "io.max", line));
        }
    }
}

/// The free map of the OCI document: file names go to the kernel as they are, so they must be names.
fn unified(resources: &LinuxResources, out: &mut Vec<Setting>) -> Result<(), ApplyLimitsError> {
    let sorted: BTreeMap<&String, &String> = resources.unified().iter().flatten().collect();
    for (file, value) in sorted {
        let controller = file.split('.').next().unwrap_or_default();
        if file.contains('/') || !file.contains('.') || controller.is_empty() {
            return Err(ApplyLimitsError::Invalid {
                what: "unified resource",
                reason: format!("`{file}` is not the name of a cgroup file"),
            });
        }
        for line in value.lines() {
            out.push(Setting::new(controller, file, line));
        }
    }
    Ok(())
}

fn number_or_max(value: i64) -> String {
    if value < 0 {
        "max".into()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<String>, ApplyLimitsError> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        Ok(settings(&resources)?
            .into_iter()
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect())
    }

    #[test]
    fn limits_are_converted() {
        let cases: [(&str, &[&str]); 7] = [
            (
                r#"{"cpu":{"shares":1024,"quota":20000,"period":50000}}"#,
                &["cpu.weight=100", "cpu.max=20000 50000"],
            ),
            (r#"{"cpu":{"quota":-1}}"#, &["cpu.max=max 100000"]),
            (
                r#"{"memory":{"limit":100,"swap":150}}"#,
                &["memory.swap.max=50", "memory.max=100"],
            ),
            (
                r#"{"memory":{"limit":100,"swap":100}}"#,
                &["memory.swap.max=0", "memory.max=100"],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                &["memory.swap.max=max", "memory.max=max"],
            ),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]),
            (
                r#"{"unified":{"memory.high":"7","io.max":"8:0 rbps=1\n8:16 rbps=2"}}"#,
                &["io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=7"],
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(of(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for json in [
            r#"{"memory":{"limit":100,"swap":50}}"#,
            r#"{"memory":{"swap":50}}"#,
            r#"{"unified":{"../memory.max":"1"}}"#,
            r#"{"unified":{"nodot":"1"}}"#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
    }
}
