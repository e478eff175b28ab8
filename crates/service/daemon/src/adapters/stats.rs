//! Usage figures from cgroupfs, the store and network namespaces.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, Driver};
use crioxide_cri_api::v1;
use crioxide_engine::ports::{CgroupStats, PortError, PortResult, Stats, Usage};
use crioxide_names::ContainerId;
use crioxide_store::{LayerId, Store};

use crate::blocking;

/// Reads the kernel's counters.
#[derive(Debug)]
pub(crate) struct KernelStats {
    pub(crate) driver: Driver,
    pub(crate) store: Arc<Store>,
}

#[async_trait]
impl Stats for KernelStats {
    async fn cgroup(&self, cgroups_path: &str) -> PortResult<Option<CgroupStats>> {
        let path = CgroupPath::parse(cgroups_path, self.driver)?;
        blocking::run(move || read(path)).await
    }

    async fn pod_cgroup(&self, parent: &str) -> PortResult<Option<CgroupStats>> {
        if parent.is_empty() {
            return Ok(None);
        }
        let path = match self.driver {
            Driver::Cgroupfs => CgroupPath::parse(parent, self.driver)?,
            Driver::Systemd => CgroupPath::parse(
                parent
                    .trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .unwrap_or_default(),
                self.driver,
            )?,
        };
        blocking::run(move || read(path)).await
    }

    async fn writable_layer(&self, id: &ContainerId) -> PortResult<Usage> {
        let (store, id) = (self.store.clone(), id.clone());
        blocking::run(move || {
            let Some(record) = store.container(id.as_str())? else {
                return Ok(Usage::default());
            };
            let usage = store.layer_usage(&LayerId::parse(&record.layer)?)?;
            Ok::<_, PortError>(Usage {
                bytes: usage.bytes,
                inodes: usage.inodes,
            })
        })
        .await
    }

    async fn network(&self, netns: &Path) -> PortResult<Vec<v1::NetworkInterfaceUsage>> {
        let netns: PathBuf = netns.to_owned();
        blocking::run(move || interfaces(&netns)).await
    }
}

fn read(path: CgroupPath) -> Result<Option<CgroupStats>, PortError> {
    let group = Cgroup::at(CgroupLayout::host()?, path);
    if !group.exists() {
        return Ok(None);
    }
    let stats = group.stats();
    let memory = stats.memory.unwrap_or_default();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Some(CgroupStats {
        timestamp: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        cpu_usage: stats
            .cpu_usage
            .map_or(0, |used| u64::try_from(used.as_nanos()).unwrap_or(u64::MAX)),
        memory_usage: memory.usage,
        working_set: memory.working_set,
        rss: memory.rss,
        memory_limit: memory.limit,
        page_faults: memory.page_faults,
        major_page_faults: memory.major_page_faults,
        swap_usage: memory.swap_usage,
        processes: stats.tasks.unwrap_or(0),
    }))
}

/// Counters of every interface but the loopback, as /proc/net/dev of the namespace tells them.
fn interfaces(netns: &Path) -> Result<Vec<v1::NetworkInterfaceUsage>, PortError> {
    let text = crioxide_netlink::Netns::open(netns)?
        .run(|| crioxide_files::read_to_string_limited("/proc/thread-self/net/dev", 1 << 20))??;
    Ok(text
        .lines()
        .filter_map(interface)
        .filter(|usage| usage.name != "lo")
        .collect())
}

/// A line of /proc/net/dev: `name: rx_bytes rx_packets rx_errors …(8 fields) tx_bytes tx_packets tx_errors …`.
fn interface(line: &str) -> Option<v1::NetworkInterfaceUsage> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers
        .split_ascii_whitespace()
        .map_while(|text| text.parse().ok())
        .collect();
    let value = |index: usize| {
        numbers
            .get(index)
            .map(|value| v1::UInt64Value { value: *value })
    };
    Some(v1::NetworkInterfaceUsage {
        name: name.trim().to_owned(),
        rx_bytes: value(0),
        rx_errors: value(2),
        tx_bytes: value(8),
        tx_errors: value(10),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counters() {
        let usage = interface("  eth0: 1296 16 3 0 0 0 0 0 828 10 4 0 0 0 0 0").unwrap();
        assert_eq!(usage.name, "eth0");
        let values = [
            usage.rx_bytes,
            usage.rx_errors,
            usage.tx_bytes,
            usage.tx_errors,
        ];
        assert_eq!(values.map(|value| value.unwrap().value), [1296, 3, 828, 4]);
        assert!(interface("Inter-|   Receive").is_none());
    }
}
