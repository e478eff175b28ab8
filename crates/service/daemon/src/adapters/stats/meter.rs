//! The readings of one pod or container and the open files they come from.

use std::{
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crioxide_cgroups::{
    Cgroup, CgroupLayout, CgroupPath, CgroupStats as Figures, MemoryLimits, StatsBuffer,
    StatsReader,
};
use crioxide_engine::ports::{CgroupStats, NetworkStats, Pressure, Stalled, StatsReading, Usage};
use tokio::sync::watch;

use super::{
    budget::{Budget, Taken},
    rate::Rate,
};

/// Limits are read again after this long, nanoseconds.
const LIMITS_LAST: i64 = 10_000_000_000;

/// Readings of one pod or container.
#[derive(Debug)]
pub(crate) struct Meter {
    id: String,
    path: Option<CgroupPath>,
    /// Held while the cgroup is read, by however long the kernel takes.
    files: Mutex<Files>,
    gone: AtomicBool,
    cgroup: watch::Sender<Option<CgroupStats>>,
    layer: watch::Sender<Option<Usage>>,
    /// The layer is being counted, or waits for it.
    pub(crate) counting: AtomicBool,
    network: Mutex<Option<NetworkStats>>,
    budget: Budget,
}

#[derive(Debug, Default)]
struct Files {
    reader: Option<(StatsReader, Taken)>,
    limits: MemoryLimits,
    limits_time: i64,
    rate: Rate,
}

impl Meter {
    pub(crate) fn new(id: &str, path: Option<CgroupPath>, budget: Budget) -> Self {
        Self {
            id: id.to_owned(),
            path,
            files: Mutex::default(),
            gone: AtomicBool::default(),
            cgroup: watch::Sender::new(None),
            layer: watch::Sender::new(None),
            counting: AtomicBool::default(),
            network: Mutex::default(),
            budget,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn has_cgroup(&self) -> bool {
        self.path.is_some()
    }

    /// The cgroup was not there when it was last looked at.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// When the cgroup was last read, Unix nanoseconds.
    pub(crate) fn cgroup_time(&self) -> i64 {
        self.cgroup.borrow().map_or(0, |stats| stats.timestamp)
    }

    pub(crate) fn network_time(&self) -> i64 {
        let network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        network.as_ref().map_or(0, |stats| stats.timestamp)
    }

    pub(crate) fn set_network(&self, stats: NetworkStats) {
        *self.network.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    }

    pub(crate) fn layer(&self) -> Option<Usage> {
        *self.layer.borrow()
    }

    pub(crate) fn reading(&self) -> StatsReading {
        StatsReading {
            cgroup: match self.is_gone() {
                true => None,
                false => *self.cgroup.borrow(),
            },
            layer: self.layer(),
            network: self
                .network
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Waits for a reading younger than `oldest`, or for the cgroup's end.
    pub(crate) async fn cgroup_read_since(&self, oldest: i64) {
        let mut readings = self.cgroup.subscribe();
        let young = |stats: &Option<CgroupStats>| {
            self.is_gone() || stats.is_some_and(|stats| stats.timestamp >= oldest)
        };
        // The sender lives in `self`.
        let _ = readings.wait_for(young).await;
    }

    /// Waits until the layer was counted once.
    pub(crate) async fn layer_counted(&self) {
        let counted =
            |usage: &Option<Usage>| usage.is_some() || !self.counting.load(Ordering::Acquire);
        let _ = self.layer.subscribe().wait_for(counted).await;
    }

    /// Ends a count; one that found nothing keeps what is known.
    pub(crate) fn count_ended(&self, usage: Option<Usage>) {
        self.counting.store(false, Ordering::Release);
        self.layer.send_modify(|known| *known = usage.or(*known));
    }

    /// Reads the cgroup now, unless somebody else does. Blocks.
    pub(crate) fn read_cgroup(&self, buffer: &mut StatsBuffer) {
        let mut files = match self.files.try_lock() {
            Ok(files) => files,
            Err(TryLockError::Poisoned(files)) => files.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let files = &mut *files;
        let time = now();
        let figures = match files.reader.take() {
            Some((reader, taken)) => {
                let figures = files.read(&reader, time, buffer);
                if figures.is_some() {
                    files.reader = Some((reader, taken));
                }
                figures
            }
            None => self.open().and_then(|reader| {
                let figures = files.read(&reader, time, buffer)?;
                // Without a budget it is opened for each reading.
                let taken = self.budget.take(reader.descriptors());
                files.reader = taken.map(|taken| (reader, taken));
                Some(figures)
            }),
        };
        match figures {
            Some(figures) => {
                let mut stats = translate(&figures, time);
                stats.cpu_rate = files.rate.update(time, stats.cpu_usage);
                self.cgroup.send_replace(Some(stats));
            }
            None => {
                self.gone.store(true, Ordering::Release);
                self.cgroup.send_modify(|_| {});
            }
        }
    }

    fn open(&self) -> Option<StatsReader> {
        let layout = CgroupLayout::host().ok()?;
        StatsReader::open(&Cgroup::at(layout, self.path.clone()?))
    }
}

impl Files {
    fn read(
        &mut self,
        reader: &StatsReader,
        time: i64,
        buffer: &mut StatsBuffer,
    ) -> Option<Figures> {
        if time - self.limits_time > LIMITS_LAST {
            self.limits = reader.limits();
            self.limits_time = time;
        }
        reader.read(self.limits, buffer)
    }
}

fn translate(figures: &Figures, time: i64) -> CgroupStats {
    let memory = figures.memory.clone().unwrap_or_default();
    CgroupStats {
        timestamp: time,
        cpu_usage: figures
            .cpu_usage
            .map_or(0, |used| u64::try_from(used.as_nanos()).unwrap_or(u64::MAX)),
        cpu_rate: None,
        memory_usage: memory.usage,
        working_set: memory.working_set,
        rss: memory.rss,
        memory_limit: memory.limit,
        page_faults: memory.page_faults,
        major_page_faults: memory.major_page_faults,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        processes: figures.tasks.unwrap_or(0),
        cpu_pressure: figures.cpu_pressure.map(pressure),
        memory_pressure: figures.memory_pressure.map(pressure),
        io_pressure: figures.io_pressure.map(pressure),
    }
}

fn pressure(read: crioxide_cgroups::Pressure) -> Pressure {
    let stalled = |read: crioxide_cgroups::Stalled| Stalled {
        total: read.total,
        avg10: read.avg10,
        avg60: read.avg60,
        avg300: read.avg300,
    };
    Pressure {
        some: stalled(read.some),
        full: stalled(read.full),
    }
}

/// Now, in Unix nanoseconds.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
