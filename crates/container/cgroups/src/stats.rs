//! Usage figures of one cgroup.

use std::time::Duration;

use crate::{Cgroup, CgroupLayout, files};

/// Usage and limits at one moment. `None` means that the host does not tell, or for limits that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Processor time used so far.
    pub cpu_usage: Option<Duration>,
    /// Memory figures.
    pub memory: Option<MemoryStats>,
    /// Number of tasks (threads).
    pub tasks: Option<u64>,
    /// Highest allowed number of tasks.
    pub task_limit: Option<u64>,
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

impl Cgroup {
    /// Reads the present figures; what cannot be read is `None`.
    pub fn stats(&self) -> CgroupStats {
        let pids = self.controller_directory("pids");
        CgroupStats {
            cpu_usage: self.cpu_usage(),
            memory: self.memory_stats(),
            tasks: pids
                .as_ref()
                .and_then(|d| files::read_number(&d.join("pids.current")).ok().flatten()),
            task_limit: pids
                .as_ref()
                .and_then(|d| files::read_number(&d.join("pids.max")).ok().flatten()),
        }
    }

    fn cpu_usage(&self) -> Option<Duration> {
        match self.layout {
            CgroupLayout::Unified(root) => {
                let text = files::read(&root.join(&self.directory).join("cpu.stat")).ok()?;
                files::keyed(&text, "usage_usec").map(Duration::from_micros)
            }
            CgroupLayout::Legacy(_) => {
                let file = self.controller_directory("cpuacct")?.join("cpuacct.usage");
                files::read(&file)
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
                    .map(Duration::from_nanos)
            }
        }
    }

    fn memory_stats(&self) -> Option<MemoryStats> {
        let directory = self.controller_directory("memory")?;
        let stat = files::read(&directory.join("memory.stat")).ok()?;
        let number = |file: &str| files::read_number(&directory.join(file)).ok().flatten();
        let stats = match self.layout {
            CgroupLayout::Unified(_) => {
                // The root cgroup has no `memory.current`.
                let usage = number("memory.current")?;
                let mut stats = from_stat(
                    usage,
                    &stat,
                    ["inactive_file", "anon", "pgfault", "pgmajfault"],
                );
                stats.limit = number("memory.max");
                stats.swap_usage = number("memory.swap.current");
                stats.swap_limit = number("memory.swap.max");
                stats
            }
            CgroupLayout::Legacy(_) => {
                let usage = number("memory.usage_in_bytes")?;
                let keys = [
                    "total_inactive_file",
                    "total_rss",
                    "total_pgfault",
                    "total_pgmajfault",
                ];
                let mut stats = from_stat(usage, &stat, keys);
                stats.limit = number("memory.limit_in_bytes");
                stats.swap_usage =
                    number("memory.memsw.usage_in_bytes").map(|both| both.saturating_sub(usage));
                let both_limit = number("memory.memsw.limit_in_bytes");
                stats.swap_limit =
                    both_limit.map(|both| both.saturating_sub(stats.limit.unwrap_or(0)));
                stats
            }
        };
        Some(stats)
    }
}

fn from_stat(usage: u64, stat: &str, keys: [&str; 4]) -> MemoryStats {
    let [inactive_file, rss, page_faults, major_page_faults] =
        keys.map(|key| files::keyed(stat, key).unwrap_or(0));
    MemoryStats {
        usage,
        working_set: usage.saturating_sub(inactive_file),
        rss,
        inactive_file,
        page_faults,
        major_page_faults,
        ..MemoryStats::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_set_never_falls_below_zero() {
        let stats = from_stat(
            100,
            "anon 7\ninactive_file 300\npgfault 2\npgmajfault 1\n",
            ["inactive_file", "anon", "pgfault", "pgmajfault"],
        );
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
}
