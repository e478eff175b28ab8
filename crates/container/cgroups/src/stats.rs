//! Usage figures of one cgroup.

mod detail;
mod pressure;
mod reader;

use std::time::Duration;

pub use detail::{CgroupDetail, CpuDetail, DeviceIo, HugePages, MemoryDetail};
pub use pressure::{Pressure, Stalled};
pub use reader::{MemoryLimits, StatsBuffer, StatsReader};

/// Usage and limits at one moment. `None` means that the host does not tell, or for limits that there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupStats {
    /// Processor time used so far.
    pub cpu_usage: Option<Duration>,
    /// Memory figures.
    pub memory: Option<MemoryStats>,
    /// Number of tasks (threads).
    pub tasks: Option<u64>,
    /// Highest allowed number of tasks.
    pub task_limit: Option<u64>,
    /// Time lost for lack of processors (version 2, kernels with PSI).
    pub cpu_pressure: Option<Pressure>,
    /// Time lost for lack of memory.
    pub memory_pressure: Option<Pressure>,
    /// Time lost waiting for disks.
    pub io_pressure: Option<Pressure>,
}

/// Memory figures, in bytes where not said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// All memory charged, page cache included.
    pub usage: u64,
    /// Hard limit.
    pub limit: Option<u64>,
    /// Usage without the page cache that could go at once; never negative.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache the kernel would drop first.
    pub inactive_file: u64,
    /// Number of page faults.
    pub page_faults: u64,
    /// Number of page faults that had to read.
    pub major_page_faults: u64,
    /// Swap in use, without memory.
    pub swap_usage: Option<u64>,
    /// Hard limit of swap, without memory.
    pub swap_limit: Option<u64>,
}

impl MemoryStats {
    /// Figures from `memory.stat` of either version.
    pub(crate) fn from_stat(usage: u64, stat: &str, unified: bool) -> Self {
        let keys = match unified {
            true => ["inactive_file", "anon", "pgfault", "pgmajfault"],
            false => [
                "total_inactive_file",
                "total_rss",
                "total_pgfault",
                "total_pgmajfault",
            ],
        };
        let [mut inactive_file, mut rss, mut faults, mut major] = [0; 4];
        let places = [&mut inactive_file, &mut rss, &mut faults, &mut major];
        let mut places: Vec<_> = keys.into_iter().zip(places).collect();
        for line in stat.lines() {
            if let Some((key, value)) = line.split_once(' ')
                && let Some((_, place)) = places.iter_mut().find(|(wanted, _)| *wanted == key)
            {
                **place = value.trim().parse().unwrap_or(0);
            }
        }
        Self {
            usage,
            working_set: usage.saturating_sub(inactive_file),
            rss,
            inactive_file,
            page_faults: faults,
            major_page_faults: major,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_set_never_falls_below_zero() {
        let stat = "anon 7\ninactive_file 300\npgfault 2\npgmajfault 1\n";
        let stats = MemoryStats::from_stat(100, stat, true);
        assert_eq!(
            (
                stats.working_set,
                stats.rss,
                stats.page_faults,
                stats.major_page_faults
            ),
            (0, 7, 2, 1)
        );
    }

    #[test]
    fn version_1_counts_the_whole_tree() {
        let stat =
            "rss 1\ninactive_file 2\ntotal_rss 10\ntotal_inactive_file 20\ntotal_pgfault 3\n";
        let stats = MemoryStats::from_stat(100, stat, false);
        assert_eq!(
            (stats.working_set, stats.rss, stats.page_faults),
            (80, 10, 3)
        );
    }
}
