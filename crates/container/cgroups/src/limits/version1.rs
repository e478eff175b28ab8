//! OCI resources in the files of cgroup version 1.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Absence, ApplyLimitsError, Setting, page_size_name};

pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, ApplyLimitsError> {
    let mut out = Vec::new();
    if let Some(values) = resources.cpu() {
        cpu(values, &mut out);
    }
    if let Some(values) = resources.memory() {
        memory(values, &mut out)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit()) {
        // 0 in the OCI document means "not set" with runc and Docker; "no limit" is negative.
        if limit != 0 {
            let value = if limit < 0 {
                "max".to_owned()
            } else {
                limit.to_string()
            };
            out.push(Setting::new("pids", "pids.max", value));
        }
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
            &format!("hugetlb.{size}.limit_in_bytes"),
            limit.limit(),
        ));
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        out.push(Setting::new("hugetlb", &reserved, limit.limit()).or(Absence::Ignored));
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        out.push(
            Setting::new(
                "rdma",
                "rdma.max",
                super::version2::rdma_line(device, limit),
            )
            .or(Absence::Warning),
        );
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            out.push(Setting::new("net_cls", "net_cls.classid", class).or(Absence::Warning));
        }
        for priority in network.priorities().iter().flatten() {
            let line = format!("{} {}", priority.name(), priority.priority());
            out.push(Setting::new("net_prio", "net_prio.ifpriomap", line).or(Absence::Warning));
        }
    }
    Ok(out)
}

/// Settings of which either may have to be written first.
pub(super) fn is_pair(first: &Setting, second: &Setting) -> bool {
    matches!(
        (first.file.as_str(), second.file.as_str()),
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            | ("cpu.cfs_period_us", "cpu.cfs_quota_us")
    )
}

fn cpu(values: &LinuxCpu, out: &mut Vec<Setting>) {
    let mut push = |file: &str, value: Option<String>, absence| {
        out.extend(value.map(|value| Setting::new("cpu", file, value).or(absence)));
    };
    push(
        "cpu.shares",
        values
            .shares()
            .filter(|shares| *shares != 0)
            .map(|v| v.to_string()),
        Absence::Error,
    );
    push(
        "cpu.idle",
        values.idle().map(|v| v.to_string()),
        Absence::Warning,
    );
    push(
        "cpu.cfs_period_us",
        values.period().filter(|v| *v != 0).map(|v| v.to_string()),
        Absence::Error,
    );
    push(
        "cpu.cfs_quota_us",
        values.quota().filter(|v| *v != 0).map(|v| v.to_string()),
        Absence::Error,
    );
    push(
        "cpu.cfs_burst_us",
        values.burst().map(|v| v.to_string()),
        Absence::Warning,
    );
    let realtime_period = values
        .realtime_period()
        .filter(|v| *v != 0)
        .map(|v| v.to_string());
    push("cpu.rt_period_us", realtime_period, Absence::Warning);
    let realtime_runtime = values
        .realtime_runtime()
        .filter(|v| *v != 0)
        .map(|v| v.to_string());
    push("cpu.rt_runtime_us", realtime_runtime, Absence::Warning);
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
    super::version2::check_swap(limit, swap)?;
    if let Some(limit) = limit {
        out.push(Setting::new("memory", "memory.limit_in_bytes", limit));
    }
    // Unlimited memory with limited memory plus swap cannot be, so the one follows the other.
    let swap = if limit == Some(-1) { Some(-1) } else { swap };
    if let Some(swap) = swap {
        // Kernels without swap accounting lack the file.
        out.push(Setting::new("memory", "memory.memsw.limit_in_bytes", swap).or(Absence::Warning));
    }
    if let Some(reservation) = values.reservation().filter(|v| *v != 0) {
        out.push(Setting::new(
            "memory",
            "memory.soft_limit_in_bytes",
            reservation,
        ));
    }
    if let Some(swappiness) = values.swappiness() {
        out.push(Setting::new("memory", "memory.swappiness", swappiness));
    }
    if values.disable_oom_killer() == Some(true) {
        out.push(Setting::new("memory", "memory.oom_control", 1));
    }
    // `kernel` and `kernelTCP` are skipped on purpose: the kernel removed the first and nobody limits the second.
    Ok(())
}

fn block_io(values: &LinuxBlockIo, out: &mut Vec<Setting>) {
    let mut push = |file: &str, value: String| {
        out.push(Setting::new("blkio", file, value).or(Absence::Warning));
    };
    if let Some(weight) = values.weight().filter(|v| *v != 0) {
        // Only the BFQ scheduler knows weights on current kernels.
        push("blkio.bfq.weight", weight.to_string());
    }
    for device in values.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            push(
                "blkio.bfq.weight_device",
                format!("{}:{} {weight}", device.major(), device.minor()),
            );
        }
    }
    let throttles = [
        (
            "blkio.throttle.read_bps_device",
            values.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            values.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            values.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            values.throttle_write_iops_device(),
        ),
    ];
    for (file, devices) in throttles {
        for device in devices.iter().flatten() {
            push(
                file,
                format!("{}:{} {}", device.major(), device.minor(), device.rate()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Vec<(String, String)> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        settings(&resources)
            .unwrap()
            .into_iter()
            .map(|setting| (setting.file, setting.value))
            .collect()
    }

    #[test]
    fn kubelet_style_resources() {
        let written = of(
            r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0-1"},
            "memory":{"limit":1048576,"swap":1048576},"pids":{"limit":10},
            "hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
        );
        let expected = [
            ("cpu.shares", "512"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpuset.cpus", "0-1"),
            ("memory.limit_in_bytes", "1048576"),
            ("memory.memsw.limit_in_bytes", "1048576"),
            ("pids.max", "10"),
            ("hugetlb.2MB.limit_in_bytes", "0"),
            ("hugetlb.2MB.rsvd.limit_in_bytes", "0"),
        ];
        let expected: Vec<(String, String)> = expected.map(|(a, b)| (a.into(), b.into())).into();
        assert_eq!(written, expected);
    }

    #[test]
    fn zero_means_unset_and_minus_one_unlimited() {
        let written =
            of(r#"{"cpu":{"shares":0,"quota":-1},"memory":{"limit":-1},"pids":{"limit":-1}}"#);
        let files: Vec<String> = written
            .iter()
            .map(|(file, value)| format!("{file}={value}"))
            .collect();
        let expected = [
            "cpu.cfs_quota_us=-1",
            "memory.limit_in_bytes=-1",
            "memory.memsw.limit_in_bytes=-1",
            "pids.max=max",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn a_page_size_cannot_leave_the_directory() {
        let resources: LinuxResources =
            serde_json::from_str(r#"{"hugepageLimits":[{"pageSize":"../../x","limit":1}]}"#)
                .unwrap();
        assert!(matches!(
            settings(&resources),
            Err(ApplyLimitsError::Invalid { .. })
        ));
    }
}
