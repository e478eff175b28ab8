//! Limits of containers: from CRI messages to the OCI spec and back, and changes to running containers.

use std::collections::HashMap;

use crioxide_cri_api::v1;
use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};
use thiserror::Error;

/// What the node's cgroups can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupFacts {
    /// Version of the hierarchy.
    pub version: CgroupVersion,
    /// Whether swap is accounted, so that memory plus swap can be limited.
    pub swap: Controller,
    /// Whether huge pages can be limited.
    pub hugetlb: Controller,
}

/// Version of the cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per controller, also with a v2 tree beside them.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Whether a controller or one of its features is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// It can be used.
    Available,
    /// It cannot.
    Missing,
}

/// Limits that cannot be applied.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResourcesError {
    /// Too little memory to start a process in.
    #[error("set memory limit {limit} too low; should be at least {minimum} bytes")]
    MemoryTooLow {
        /// Requested limit, bytes.
        limit: i64,
        /// Smallest limit, bytes.
        minimum: i64,
    },
    /// Less memory and swap together than memory alone.
    #[error("memory swap limit ({swap}) cannot be lower than memory limit ({limit})")]
    SwapBelowMemory {
        /// Requested memory plus swap, bytes.
        swap: i64,
        /// Requested memory, bytes.
        limit: i64,
    },
    /// A negative number where only positive ones make sense.
    #[error("{field} cannot be negative: {value}")]
    Negative {
        /// Name of the CRI field.
        field: &'static str,
        /// The number.
        value: i64,
    },
}

/// Adds the requested limits to `resources`.
///
/// # Errors
/// Fails for limits below `minimum_memory` bytes, contradictory or negative ones.
pub fn apply(
    resources: &mut LinuxResources,
    requested: &v1::LinuxContainerResources,
    minimum_memory: i64,
    facts: CgroupFacts,
) -> Result<(), ResourcesError> {
    check_numbers(requested)?;
    let limit = requested.memory_limit_in_bytes;
    if limit != 0 && limit < minimum_memory {
        return Err(ResourcesError::MemoryTooLow {
            limit,
            minimum: minimum_memory,
        });
    }
    apply_cpu(resources, requested);
    if limit != 0 {
        let swap = if requested.memory_swap_limit_in_bytes == 0 {
            limit
        } else {
            requested.memory_swap_limit_in_bytes
        };
        if swap > 0 && swap < limit {
            return Err(ResourcesError::SwapBelowMemory { swap, limit });
        }
        let memory = resources
            .memory_mut()
            .get_or_insert_with(LinuxMemory::default);
        memory.set_limit(Some(limit));
        if facts.swap == Controller::Available {
            memory.set_swap(Some(swap));
        }
    }
    if facts.hugetlb == Controller::Available && !requested.hugepage_limits.is_empty() {
        resources.set_hugepage_limits(Some(
            requested
                .hugepage_limits
                .iter()
                .map(hugepage_limit)
                .collect(),
        ));
    }
    if facts.version == CgroupVersion::V2 && !requested.unified.is_empty() {
        resources
            .unified_mut()
            .get_or_insert_with(HashMap::new)
            .extend(requested.unified.clone());
    }
    Ok(())
}

/// Changes the limits of a running container as `UpdateContainerResources` asks.
///
/// A limit of swap that is not asked for follows the memory limit. Returns the resources to give the runtime, with only
/// what was asked for; `current` holds the sum afterwards.
///
/// # Errors
/// Fails for contradictory or negative limits, leaving `current` untouched.
pub fn update(
    current: &mut LinuxResources,
    requested: &v1::LinuxContainerResources,
    facts: CgroupFacts,
) -> Result<LinuxResources, ResourcesError> {
    let mut request = requested.clone();
    if request.memory_limit_in_bytes == 0 && request.memory_swap_limit_in_bytes != 0 {
        // The kernel takes both together.
        let memory = current.memory().as_ref();
        request.memory_limit_in_bytes = memory.and_then(|memory| memory.limit()).unwrap_or(0);
    }
    let mut change = LinuxResources::default();
    change.set_devices(None);
    apply(&mut change, &request, 0, facts)?;
    apply(current, &request, 0, facts)?;
    Ok(change)
}

/// What `ContainerStatus` reports for effective limits.
#[must_use]
pub fn to_cri(
    resources: &LinuxResources,
    oom_score_adj: Option<i32>,
) -> v1::LinuxContainerResources {
    let mut cri = v1::LinuxContainerResources {
        oom_score_adj: i64::from(oom_score_adj.unwrap_or(0)),
        ..v1::LinuxContainerResources::default()
    };
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    if let Some(cpu) = resources.cpu() {
        cri.cpu_period = cpu.period().map_or(0, signed);
        cri.cpu_quota = cpu.quota().unwrap_or(0);
        cri.cpu_shares = cpu.shares().map_or(0, signed);
        cri.cpuset_cpus = cpu.cpus().clone().unwrap_or_default();
        cri.cpuset_mems = cpu.mems().clone().unwrap_or_default();
    }
    if let Some(memory) = resources.memory() {
        cri.memory_limit_in_bytes = memory.limit().unwrap_or(0);
        cri.memory_swap_limit_in_bytes = memory.swap().unwrap_or(0);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let bytes = u64::try_from(limit.limit()).unwrap_or(0);
        cri.hugepage_limits.push(v1::HugepageLimit {
            page_size: limit.page_size().clone(),
            limit: bytes,
        });
    }
    cri.unified = resources.unified().clone().unwrap_or_default();
    cri
}

fn check_numbers(requested: &v1::LinuxContainerResources) -> Result<(), ResourcesError> {
    for (field, value) in [
        ("memory_limit_in_bytes", requested.memory_limit_in_bytes),
        ("cpu_shares", requested.cpu_shares),
        ("cpu_period", requested.cpu_period),
    ] {
        if value < 0 {
            return Err(ResourcesError::Negative { field, value });
        }
    }
    Ok(())
}

fn apply_cpu(resources: &mut LinuxResources, requested: &v1::LinuxContainerResources) {
    let unsigned = |number: i64| u64::try_from(number).ok().filter(|number| *number != 0);
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    if let Some(shares) = unsigned(requested.cpu_shares) {
        cpu.set_shares(Some(shares));
    }
    if requested.cpu_quota != 0 {
        cpu.set_quota(Some(requested.cpu_quota));
    }
    if let Some(period) = unsigned(requested.cpu_period) {
        cpu.set_period(Some(period));
    }
    if let Some(cpus) = text(&requested.cpuset_cpus) {
        cpu.set_cpus(Some(cpus));
    }
    if let Some(mems) = text(&requested.cpuset_mems) {
        cpu.set_mems(Some(mems));
    }
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
}

fn hugepage_limit(requested: &v1::HugepageLimit) -> LinuxHugepageLimit {
    let mut limit = LinuxHugepageLimit::default();
    limit.set_page_size(requested.page_size.clone());
    limit.set_limit(i64::try_from(requested.limit).unwrap_or(i64::MAX));
    limit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTS: CgroupFacts = CgroupFacts {
        version: CgroupVersion::V2,
        swap: Controller::Available,
        hugetlb: Controller::Available,
    };

    fn built(
        requested: &v1::LinuxContainerResources,
        facts: CgroupFacts,
    ) -> Result<LinuxResources, ResourcesError> {
        let mut resources = LinuxResources::default();
        apply(&mut resources, requested, 12 << 20, facts)?;
        Ok(resources)
    }

    fn memory(limit: i64, swap: i64) -> v1::LinuxContainerResources {
        v1::LinuxContainerResources {
            memory_limit_in_bytes: limit,
            memory_swap_limit_in_bytes: swap,
            ..v1::LinuxContainerResources::default()
        }
    }

    #[test]
    fn memory_and_swap_rules() {
        let limits = |limit, swap, facts| {
            built(&memory(limit, swap), facts).map(|resources| {
                resources
                    .memory()
                    .map(|memory| (memory.limit(), memory.swap()))
            })
        };
        assert_eq!(
            limits(64 << 20, 0, FACTS),
            Ok(Some((Some(64 << 20), Some(64 << 20))))
        );
        assert_eq!(
            limits(64 << 20, 128 << 20, FACTS),
            Ok(Some((Some(64 << 20), Some(128 << 20))))
        );
        assert_eq!(
            limits(64 << 20, -1, FACTS),
            Ok(Some((Some(64 << 20), Some(-1))))
        );
        assert_eq!(
            limits(64 << 20, 1, FACTS),
            Err(ResourcesError::SwapBelowMemory {
                swap: 1,
                limit: 64 << 20
            })
        );
        assert_eq!(limits(0, 0, FACTS), Ok(None));
        let no_swap = CgroupFacts {
            swap: Controller::Missing,
            ..FACTS
        };
        assert_eq!(
            limits(64 << 20, 0, no_swap),
            Ok(Some((Some(64 << 20), None)))
        );
        assert_eq!(
            limits(1024, 0, FACTS).unwrap_err().to_string(),
            "set memory limit 1024 too low; should be at least 12582912 bytes"
        );
        assert!(matches!(
            limits(-5, 0, FACTS),
            Err(ResourcesError::Negative { .. })
        ));
    }

    #[test]
    fn version_one_has_no_unified_files() {
        let requested = v1::LinuxContainerResources {
            unified: HashMap::from([("memory.high".into(), "1".into())]),
            ..v1::LinuxContainerResources::default()
        };
        assert!(built(&requested, FACTS).unwrap().unified().is_some());
        assert!(
            built(
                &requested,
                CgroupFacts {
                    version: CgroupVersion::V1,
                    ..FACTS
                }
            )
            .unwrap()
            .unified()
            .is_none()
        );
    }

    #[test]
    fn updates_touch_only_what_is_asked() {
        let mut current = built(
            &v1::LinuxContainerResources {
                cpu_shares: 100,
                cpu_quota: 1000,
                ..memory(64 << 20, 0)
            },
            FACTS,
        )
        .unwrap();
        let change = update(
            &mut current,
            &v1::LinuxContainerResources {
                cpu_shares: 200,
                ..memory(32 << 20, 0)
            },
            FACTS,
        )
        .unwrap();
        assert_eq!(
            (
                change.cpu().clone().unwrap().shares(),
                change.cpu().clone().unwrap().quota()
            ),
            (Some(200), None)
        );
        assert_eq!(change.memory().unwrap().swap(), Some(32 << 20));
        let total = to_cri(&current, Some(5));
        assert_eq!(
            (
                total.cpu_shares,
                total.cpu_quota,
                total.memory_limit_in_bytes,
                total.oom_score_adj
            ),
            (200, 1000, 32 << 20, 5)
        );
        let swap = update(&mut current, &memory(0, 48 << 20), FACTS).unwrap();
        let both = swap.memory().unwrap();
        assert_eq!(
            (both.limit(), both.swap()),
            (Some(32 << 20), Some(48 << 20))
        );
        let before = current.clone();
        assert!(update(&mut current, &memory(-1, 0), FACTS).is_err());
        assert!(update(&mut current, &memory(32 << 20, 7), FACTS).is_err());
        assert_eq!(current, before);
    }

    proptest! {
        #[test]
        fn cri_values_survive(shares in 0_i64..300_000, quota in -1_i64..1_000_000, period in 0_i64..1_000_000, limit in (12_i64 << 20)..(1_i64 << 40), cpus in "[0-9,-]{0,8}") {
            let requested = v1::LinuxContainerResources { cpu_shares: shares, cpu_quota: quota, cpu_period: period, cpuset_cpus: cpus, memory_swap_limit_in_bytes: limit, oom_score_adj: 3,
                hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 4096 }], ..memory(limit, 0) };
            prop_assert_eq!(to_cri(&built(&requested, FACTS).unwrap(), Some(3)), requested);
        }
    }
}
