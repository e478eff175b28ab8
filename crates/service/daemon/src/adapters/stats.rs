//! Usage figures from cgroupfs, the store and network namespaces.
//!
//! Every pod and container has one [`Meter`], which owns its open cgroup files and its last readings. A list reads all
//! meters in a few blocking calls. A meter that the kernel holds up is skipped by later lists, which answer its last
//! reading; a list waits for it once, and not long.

mod budget;
mod detail;
mod guests;
mod layers;
mod meter;
mod networks;
mod rate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use crioxide_cgroups::{CgroupPath, Driver, StatsBuffer};
use crioxide_engine::ports::{
    CgroupName, PortResult, Stats, StatsDetail, StatsReading, StatsTarget,
};
use crioxide_store::Store;
use tokio::time::{Instant, timeout_at};

use budget::Budget;
pub(crate) use guests::GuestStats;
use layers::Layers;
use meter::{Meter, now};

/// A reading younger than this is answered again: it bounds what a client that asks in a loop costs.
const FRESH: Duration = Duration::from_millis(100);
/// How long a call waits for readings that do not come.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same for pod metrics: whoever scrapes them waits rather than have a gap.
const METRICS_PATIENCE: Duration = Duration::from_secs(2);
/// For the part of pod metrics that looks at every process.
const DETAIL_PATIENCE: Duration = Duration::from_secs(10);
/// With more meters than this a second thread reads half of them.
const ALONE: usize = 16;

/// Reads the kernel's counters.
#[derive(Debug)]
pub(crate) struct KernelStats {
    driver: Driver,
    fresh: Duration,
    budget: Budget,
    layers: Layers,
    store: Arc<Store>,
    meters: Mutex<HashMap<String, Arc<Meter>>>,
}

impl KernelStats {
    /// `period` is `collection_period`: readings are answered again for so long. `open_files` is the daemon's limit.
    pub(crate) fn new(
        driver: Driver,
        store: Arc<Store>,
        period: Duration,
        open_files: u64,
    ) -> Self {
        Self {
            driver,
            fresh: period.max(FRESH),
            budget: Budget::for_limit(open_files),
            layers: Layers::new(store.clone(), period),
            store,
            meters: Mutex::default(),
        }
    }

    /// The targets' meters, new ones where there are none.
    fn meters(&self, targets: &[StatsTarget]) -> Vec<Arc<Meter>> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = |target: &StatsTarget| {
            if let Some(meter) = meters.get(&target.id) {
                return meter.clone();
            }
            let path = target
                .cgroup
                .as_ref()
                .and_then(|name| cgroup_path(name, self.driver).ok());
            let lasting = path.is_some();
            let meter = Arc::new(Meter::new(&target.id, path, self.budget.clone()));
            // What has no cgroup has ended: nobody would ever forget its meter.
            if lasting {
                meters.insert(target.id.clone(), meter.clone());
            }
            meter
        };
        targets.iter().map(meter).collect()
    }

    /// Meters whose cgroup is gone keep nothing worth keeping.
    fn drop_gone(&self, meters: &[Arc<Meter>]) {
        if meters.iter().any(|meter| meter.is_gone()) {
            let mut all = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
            for meter in meters.iter().filter(|meter| meter.is_gone()) {
                all.remove(meter.id());
            }
        }
    }

    async fn read_within(&self, targets: &[StatsTarget], patience: Duration) -> Vec<StatsReading> {
        let meters = self.meters(targets);
        let oldest = now() - i64::try_from(self.fresh.as_nanos()).unwrap_or(i64::MAX);
        let stale: Vec<_> = meters
            .iter()
            .filter(|meter| meter.has_cgroup() && meter.cgroup_time() < oldest)
            .cloned()
            .collect();
        let networks: Vec<_> = meters
            .iter()
            .zip(targets)
            .filter(|(meter, _)| meter.network_time() < oldest)
            .filter_map(|(meter, target)| Some((meter.clone(), target.netns.clone()?)))
            .collect();
        for (meter, target) in meters.iter().zip(targets) {
            if target.layer {
                self.layers.want(meter);
            }
        }
        if !stale.is_empty() || !networks.is_empty() {
            // In tasks of their own: a reader that is held up ends when it can.
            let mut work = Vec::new();
            let half = match stale.len() {
                few if few <= ALONE => few.max(1),
                many => many.div_ceil(2),
            };
            for part in stale.chunks(half) {
                let part = part.to_vec();
                work.push(tokio::task::spawn_blocking(move || {
                    let mut buffer = StatsBuffer::default();
                    for meter in part {
                        meter.read_cgroup(&mut buffer);
                    }
                }));
            }
            if !networks.is_empty() {
                work.push(tokio::task::spawn_blocking(move || {
                    networks::read(&networks)
                }));
            }
            let deadline = Instant::now() + patience;
            for task in work {
                let _ = timeout_at(deadline, task).await;
            }
            // Those that another call is reading.
            for meter in &stale {
                let _ = timeout_at(deadline, meter.cgroup_read_since(oldest)).await;
            }
        }
        if targets.iter().any(|target| target.layer) {
            let deadline = Instant::now() + patience;
            for (meter, target) in meters.iter().zip(targets) {
                if target.layer {
                    let _ = timeout_at(deadline, meter.layer_counted()).await;
                }
            }
        }
        self.drop_gone(&meters);
        meters.iter().map(|meter| meter.reading()).collect()
    }
}

#[async_trait]
impl Stats for KernelStats {
    async fn read(&self, targets: Vec<StatsTarget>) -> Vec<StatsReading> {
        self.read_within(&targets, PATIENCE).await
    }

    async fn detail(&self, targets: Vec<StatsTarget>) -> Vec<StatsDetail> {
        let names: Vec<_> = targets.iter().map(|target| target.cgroup.clone()).collect();
        let readings = self.read_within(&targets, METRICS_PATIENCE).await;
        let (driver, store) = (self.driver, self.store.clone());
        let read = tokio::task::spawn_blocking(move || {
            let usage = store.image_fs_usage().ok();
            let disk = usage.and_then(|usage| detail::disk(&usage.mount_point));
            let read = readings.into_iter().zip(names).map(|(reading, name)| {
                let path = name.and_then(|name| cgroup_path(&name, driver).ok());
                detail::read(reading, path.as_ref(), disk)
            });
            read.collect::<Vec<_>>()
        });
        match timeout_at(Instant::now() + DETAIL_PATIENCE, read).await {
            Ok(Ok(details)) => details,
            Ok(Err(error)) => {
                tracing::warn!("Failed to read the figures of pod metrics: {error}");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!("The figures of pod metrics did not come in time");
                Vec::new()
            }
        }
    }

    fn forget(&self, id: &str) {
        // A reading under way closes what it uses when it ends.
        self.meters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }
}

/// The cgroup behind a name of a record.
pub(crate) fn cgroup_path(name: &CgroupName, driver: Driver) -> PortResult<CgroupPath> {
    let text = match (name, driver) {
        (CgroupName::Container(path), _) => path.as_str(),
        (CgroupName::Pod(parent), Driver::Cgroupfs) => parent.as_str(),
        (CgroupName::Pod(parent), Driver::Systemd) => parent
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default(),
    };
    Ok(CgroupPath::parse(text, driver)?)
}
