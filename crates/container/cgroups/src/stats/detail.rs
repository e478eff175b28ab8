//! The figures of a cgroup that monitoring asks for now and then, read by their paths.

use std::path::Path;

use crate::{Cgroup, CgroupLayout, files};

/// Figures beyond [`crate::CgroupStats`]. `None` and missing entries are what the host does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupDetail {
    /// Processor time.
    pub cpu: CpuDetail,
    /// Memory, bytes.
    pub memory: MemoryDetail,
    /// Traffic to block devices.
    pub io: Vec<DeviceIo>,
    /// Huge pages in use, by page size.
    pub huge_pages: Vec<HugePages>,
    /// Processes killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Highest allowed number of tasks; `None` where there is no limit.
    pub task_limit: Option<u64>,
}

/// Processor time, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuDetail {
    /// Outside of the kernel.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// In all, by processor (version 1 only).
    pub per_cpu: Vec<u64>,
    /// Periods with a quota.
    pub periods: Option<u64>,
    /// Periods in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// Time spent waiting for the next period.
    pub throttled: Option<u64>,
}

/// Memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryDetail {
    /// Page cache.
    pub cache: Option<u64>,
    /// The kernel's own.
    pub kernel: Option<u64>,
    /// Mapped files.
    pub mapped_file: Option<u64>,
    /// Times that a charge met the limit.
    pub failures: Option<u64>,
    /// Highest usage so far.
    pub max_usage: Option<u64>,
    /// Page faults of the cgroup itself; on version 2 the same as of the tree.
    pub page_faults: Option<u64>,
    /// Page faults that had to read, of the cgroup itself.
    pub major_page_faults: Option<u64>,
    /// What is protected from reclaim (version 2), or the soft limit (version 1).
    pub reservation: Option<u64>,
}

/// Traffic to a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major and minor number.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Write requests.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugePages {
    /// As cgroup files name it: `2MB`.
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// Highest usage so far (version 1 only).
    pub max_usage: Option<u64>,
}

impl Cgroup {
    /// Reads the present figures; what cannot be read is missing.
    #[must_use]
    pub fn detail(&self) -> CgroupDetail {
        let text = |controller: &str, file: &str| {
            let directory = self.controller_directory(controller)?;
            files::read(&directory.join(file)).ok()
        };
        let task_limit = self
            .controller_directory("pids")
            .and_then(|directory| number(&directory.join("pids.max")));
        let (cpu, memory, io, oom_kills) = match self.layout {
            CgroupLayout::Unified(_) => (
                unified_cpu(&text("cpu", "cpu.stat").unwrap_or_default()),
                self.unified_memory(),
                unified_io(&text("io", "io.stat").unwrap_or_default()),
                text("memory", "memory.events").and_then(|t| files::keyed(&t, "oom_kill")),
            ),
            CgroupLayout::Legacy { .. } => (
                self.legacy_cpu(),
                self.legacy_memory(),
                self.legacy_io(),
                text("memory", "memory.oom_control").and_then(|t| files::keyed(&t, "oom_kill")),
            ),
        };
        CgroupDetail {
            cpu,
            memory,
            io,
            huge_pages: self.huge_pages(),
            oom_kills,
            task_limit,
        }
    }

    fn unified_memory(&self) -> MemoryDetail {
        let Some(directory) = self.controller_directory("memory") else {
            return MemoryDetail::default();
        };
        let stat = files::read(&directory.join("memory.stat")).unwrap_or_default();
        let events = files::read(&directory.join("memory.events")).unwrap_or_default();
        MemoryDetail {
            cache: files::keyed(&stat, "file"),
            kernel: files::keyed(&stat, "kernel"),
            mapped_file: files::keyed(&stat, "file_mapped"),
            failures: files::keyed(&events, "max"),
            max_usage: number(&directory.join("memory.peak")),
            page_faults: files::keyed(&stat, "pgfault"),
            major_page_faults: files::keyed(&stat, "pgmajfault"),
            reservation: number(&directory.join("memory.min")),
        }
    }

    fn legacy_memory(&self) -> MemoryDetail {
        let Some(directory) = self.controller_directory("memory") else {
            return MemoryDetail::default();
        };
        let stat = files::read(&directory.join("memory.stat")).unwrap_or_default();
        let of = |file: &str| number(&directory.join(file));
        MemoryDetail {
            cache: files::keyed(&stat, "total_cache"),
            kernel: of("memory.kmem.usage_in_bytes"),
            mapped_file: files::keyed(&stat, "total_mapped_file"),
            failures: of("memory.failcnt"),
            max_usage: of("memory.max_usage_in_bytes"),
            page_faults: files::keyed(&stat, "pgfault"),
            major_page_faults: files::keyed(&stat, "pgmajfault"),
            reservation: of("memory.soft_limit_in_bytes"),
        }
    }

    fn legacy_cpu(&self) -> CpuDetail {
        let text = |controller: &str, file: &str| {
            let directory = self.controller_directory(controller)?;
            files::read(&directory.join(file)).ok()
        };
        let per_cpu = text("cpuacct", "cpuacct.usage_percpu").unwrap_or_default();
        let quota = text("cpu", "cpu.stat").unwrap_or_default();
        let of = |file: &str| text("cpuacct", file).and_then(|text| text.trim().parse().ok());
        CpuDetail {
            user: of("cpuacct.usage_user"),
            system: of("cpuacct.usage_sys"),
            per_cpu: per_cpu
                .split_ascii_whitespace()
                .filter_map(|used| used.parse().ok())
                .collect(),
            periods: files::keyed(&quota, "nr_periods"),
            throttled_periods: files::keyed(&quota, "nr_throttled"),
            throttled: files::keyed(&quota, "throttled_time"),
        }
    }

    fn legacy_io(&self) -> Vec<DeviceIo> {
        let text = |file: &str| {
            let directory = self.controller_directory("blkio")?;
            files::read(&directory.join(file)).ok()
        };
        // The policies count what they handle; throttling handles all there is.
        legacy_io(
            &text("blkio.throttle.io_service_bytes_recursive")
                .or_else(|| text("blkio.throttle.io_service_bytes"))
                .unwrap_or_default(),
            &text("blkio.throttle.io_serviced_recursive")
                .or_else(|| text("blkio.throttle.io_serviced"))
                .unwrap_or_default(),
        )
    }

    fn huge_pages(&self) -> Vec<HugePages> {
        let Some(directory) = self.controller_directory("hugetlb") else {
            return Vec::new();
        };
        let (current, max) = match self.layout {
            CgroupLayout::Unified(_) => (".current", None),
            CgroupLayout::Legacy { .. } => (".usage_in_bytes", Some(".max_usage_in_bytes")),
        };
        let mut pages: Vec<_> = sizes(&directory, current)
            .into_iter()
            .filter_map(|size| {
                let of = |end: &str| number(&directory.join(format!("hugetlb.{size}{end}")));
                Some(HugePages {
                    usage: of(current)?,
                    max_usage: max.and_then(of),
                    size,
                })
            })
            .collect();
        pages.sort_by(|a, b| a.size.cmp(&b.size));
        pages
    }
}

fn number(path: &Path) -> Option<u64> {
    files::read_number(path).ok().flatten()
}

/// Page sizes that have a file `hugetlb.<size><end>`.
fn sizes(directory: &Path, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    entries.filter_map(size).collect()
}

fn unified_cpu(stat: &str) -> CpuDetail {
    let nanoseconds = |key: &str| Some(files::keyed(stat, key)?.saturating_mul(1000));
    CpuDetail {
        user: nanoseconds("user_usec"),
        system: nanoseconds("system_usec"),
        per_cpu: Vec::new(),
        periods: files::keyed(stat, "nr_periods"),
        throttled_periods: files::keyed(stat, "nr_throttled"),
        throttled: nanoseconds("throttled_usec"),
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` for each device.
fn unified_io(stat: &str) -> Vec<DeviceIo> {
    let device = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let mut io = DeviceIo {
            device: device_numbers(words.next()?)?,
            ..DeviceIo::default()
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => io.read_bytes = value,
                "rios" => io.reads = value,
                "wbytes" => io.written_bytes = value,
                "wios" => io.writes = value,
                _ => {}
            }
        }
        Some(io)
    };
    stat.lines().filter_map(device).collect()
}

/// `8:0 Read 1`, `8:0 Write 2`, … for each device, in a file of bytes and one of requests.
fn legacy_io(bytes: &str, requests: &str) -> Vec<DeviceIo> {
    let mut devices: Vec<DeviceIo> = Vec::new();
    for (text, counts_bytes) in [(bytes, true), (requests, false)] {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(operation), Some(value)) = (
                words.next().and_then(device_numbers),
                words.next(),
                words.next().and_then(|value| value.parse().ok()),
            ) else {
                continue;
            };
            let known = devices.iter().position(|io| io.device == device);
            let index = known.unwrap_or_else(|| {
                devices.push(DeviceIo {
                    device,
                    ..DeviceIo::default()
                });
                devices.len() - 1
            });
            let io = &mut devices[index];
            match (operation, counts_bytes) {
                ("Read", true) => io.read_bytes = value,
                ("Read", false) => io.reads = value,
                ("Write", true) => io.written_bytes = value,
                ("Write", false) => io.writes = value,
                _ => {}
            }
        }
    }
    devices
}

fn device_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_of_both_versions() {
        let expected = [DeviceIo {
            device: (254, 0),
            read_bytes: 4096,
            reads: 1,
            written_bytes: 8192,
            writes: 2,
        }];
        let stat = "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n";
        assert_eq!(unified_io(stat), expected);
        let bytes = "254:0 Read 4096\n254:0 Write 8192\n254:0 Total 12288\nTotal 12288\n";
        let requests = "254:0 Read 1\n254:0 Write 2\n254:0 Total 3\nTotal 3\n";
        assert_eq!(legacy_io(bytes, requests), expected);
    }

    #[test]
    fn times_of_version_2_are_nanoseconds() {
        let stat = "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 5\nnr_throttled 1\nthrottled_usec 7\n";
        let cpu = unified_cpu(stat);
        assert_eq!((cpu.user, cpu.system), (Some(10_000), Some(20_000)));
        assert_eq!(
            (cpu.periods, cpu.throttled_periods, cpu.throttled),
            (Some(5), Some(1), Some(7000))
        );
    }
}
