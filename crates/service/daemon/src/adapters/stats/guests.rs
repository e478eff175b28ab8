//! Usage of containers that shims run: a guest's is not in the node's cgroups, so the shim is asked.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use crioxide_engine::ports::{
    CgroupName, CgroupStats, Stats, StatsDetail, StatsReading, StatsTarget,
};
use crioxide_shim_client::metrics::Metrics;
use futures_util::future::join_all;

use super::{FRESH, KernelStats, METRICS_PATIENCE, PATIENCE, meter::now, rate::Rate};
use crate::adapters::backend::Shims;

/// The node's own figures, and those of shims in place of their containers' cgroups.
pub(crate) struct GuestStats {
    kernel: KernelStats,
    shims: Shims,
    last: Mutex<HashMap<String, Last>>,
}

/// The last reading of a container.
#[derive(Debug, Default)]
struct Last {
    rate: Rate,
    stats: CgroupStats,
}

impl GuestStats {
    pub(crate) fn new(kernel: KernelStats, shims: Shims) -> Self {
        Self {
            kernel,
            shims,
            last: Mutex::default(),
        }
    }

    async fn guests(
        &self,
        targets: &[StatsTarget],
        patience: Duration,
    ) -> Vec<Option<CgroupStats>> {
        join_all(targets.iter().map(|target| self.guest(target, patience))).await
    }

    async fn guest(&self, target: &StatsTarget, patience: Duration) -> Option<CgroupStats> {
        // A pod's own cgroup is on the node, with all of its virtual machine in it.
        if !matches!(target.cgroup, Some(CgroupName::Container(_))) {
            return None;
        }
        if let Some(last) = self.last().get(&target.id)
            && now() - last.stats.timestamp < i64::try_from(FRESH.as_nanos()).unwrap_or(i64::MAX)
        {
            return Some(last.stats);
        }
        let metrics = self.shims.metrics(&target.id, patience).await?;
        let mut stats = cgroup_stats(&metrics, now());
        let mut all = self.last();
        let last = all.entry(target.id.clone()).or_default();
        stats.cpu_rate = last.rate.update(stats.timestamp, stats.cpu_usage);
        last.stats = stats;
        Some(stats)
    }

    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<String, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cgroup_stats(metrics: &Metrics, timestamp: i64) -> CgroupStats {
    CgroupStats {
        timestamp,
        cpu_usage: metrics.cpu_usage,
        memory_usage: metrics.memory_usage,
        working_set: metrics.memory_usage.saturating_sub(metrics.inactive_file),
        rss: metrics.rss,
        memory_limit: metrics.memory_limit,
        page_faults: metrics.page_faults,
        major_page_faults: metrics.major_page_faults,
        swap_usage: metrics.swap_usage,
        swap_limit: metrics.swap_limit,
        processes: metrics.processes,
        ..CgroupStats::default()
    }
}

#[async_trait]
impl Stats for GuestStats {
    async fn read(&self, targets: Vec<StatsTarget>) -> Vec<StatsReading> {
        let (guests, mut readings) = tokio::join!(
            self.guests(&targets, PATIENCE),
            self.kernel.read(targets.clone())
        );
        for (reading, guest) in readings.iter_mut().zip(guests) {
            reading.cgroup = guest.or(reading.cgroup);
        }
        readings
    }

    async fn detail(&self, targets: Vec<StatsTarget>) -> Vec<StatsDetail> {
        let (guests, mut details) = tokio::join!(
            self.guests(&targets, METRICS_PATIENCE),
            self.kernel.detail(targets.clone())
        );
        for (detail, guest) in details.iter_mut().zip(guests) {
            detail.cgroup = guest.or(detail.cgroup);
        }
        details
    }

    fn forget(&self, id: &str) {
        self.kernel.forget(id);
        self.last().remove(id);
    }
}
