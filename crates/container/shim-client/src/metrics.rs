//! What a container uses, in the words of containerd's `cgroups` (`cgroup1/stats` and `cgroup2/stats`, `metrics.proto`).
//! A guest may have the other version than the host.

use prost::{DecodeError, Message};

use crate::messages::Any;

/// Usage of a container. Counters that a version does not have are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// CPU time, nanoseconds.
    pub cpu_usage: u64,
    /// Memory in use, bytes.
    pub memory_usage: u64,
    /// Its limit, bytes; `None` when there is none.
    pub memory_limit: Option<u64>,
    /// Of the memory in use, file pages that were not touched lately, bytes.
    pub inactive_file: u64,
    /// Anonymous memory, bytes.
    pub rss: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from disk.
    pub major_page_faults: u64,
    /// Swap in use, bytes; on version 1 without the memory. `None` when it is not counted.
    pub swap_usage: Option<u64>,
    /// Its limit, bytes; `None` when there is none.
    pub swap_limit: Option<u64>,
    /// Processes and threads.
    pub processes: u64,
}

/// Limits from here on stand for none: version 1 says the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 62;

impl Metrics {
    /// Reads the message; `None` when it is of an unknown type.
    ///
    /// # Errors
    /// It is not what it says it is.
    pub fn parse(any: &Any) -> Result<Option<Self>, DecodeError> {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        match name {
            "io.containerd.cgroups.v1.Metrics" => {
                Version1::decode(any.value.as_slice()).map(|metrics| Some(metrics.into()))
            }
            "io.containerd.cgroups.v2.Metrics" => {
                Version2::decode(any.value.as_slice()).map(|metrics| Some(metrics.into()))
            }
            _ => Ok(None),
        }
    }
}

fn limit(bytes: u64) -> Option<u64> {
    Some(bytes).filter(|bytes| (1..NO_LIMIT).contains(bytes))
}

impl From<Version1> for Metrics {
    fn from(metrics: Version1) -> Self {
        let memory = metrics.memory.unwrap_or_default();
        let usage = memory.usage.unwrap_or_default();
        // Counted together with the memory.
        let both = memory.swap;
        Self {
            cpu_usage: metrics.cpu.and_then(|cpu| cpu.usage).map_or(0, |u| u.total),
            memory_usage: usage.usage,
            memory_limit: limit(usage.limit),
            inactive_file: memory.total_inactive_file,
            rss: memory.total_rss,
            page_faults: memory.pg_fault,
            major_page_faults: memory.pg_maj_fault,
            swap_usage: both.map(|both| both.usage.saturating_sub(usage.usage)),
            swap_limit: both.and_then(|both| {
                let (both, memory) = limit(both.limit).zip(limit(usage.limit))?;
                Some(both.saturating_sub(memory))
            }),
            processes: metrics.pids.map_or(0, |pids| pids.current),
        }
    }
}

impl From<Version2> for Metrics {
    fn from(metrics: Version2) -> Self {
        let memory = metrics.memory.unwrap_or_default();
        Self {
            cpu_usage: metrics
                .cpu
                .map_or(0, |cpu| cpu.usage_usec.saturating_mul(1000)),
            memory_usage: memory.usage,
            memory_limit: limit(memory.usage_limit),
            inactive_file: memory.inactive_file,
            rss: memory.anon,
            page_faults: memory.pgfault,
            major_page_faults: memory.pgmajfault,
            swap_usage: Some(memory.swap_usage),
            swap_limit: limit(memory.swap_limit),
            processes: metrics.pids.map_or(0, |pids| pids.current),
        }
    }
}

/// `io.containerd.cgroups.v1.Metrics`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Version1 {
    /// Processes.
    #[prost(message, optional, tag = "2")]
    pub pids: Option<Pids>,
    /// CPU.
    #[prost(message, optional, tag = "3")]
    pub cpu: Option<Cpu1>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<Memory1>,
}

/// `PidsStat` of both versions.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Pids {
    /// Processes and threads.
    #[prost(uint64, tag = "1")]
    pub current: u64,
}

/// `CPUStat` of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Cpu1 {
    /// Time.
    #[prost(message, optional, tag = "1")]
    pub usage: Option<CpuUsage1>,
}

/// `CPUUsage` of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CpuUsage1 {
    /// Nanoseconds.
    #[prost(uint64, tag = "1")]
    pub total: u64,
}

/// `MemoryStat` of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Memory1 {
    /// Page faults.
    #[prost(uint64, tag = "9")]
    pub pg_fault: u64,
    /// Those that read from disk.
    #[prost(uint64, tag = "10")]
    pub pg_maj_fault: u64,
    /// Anonymous memory.
    #[prost(uint64, tag = "19")]
    pub total_rss: u64,
    /// Cold file pages.
    #[prost(uint64, tag = "30")]
    pub total_inactive_file: u64,
    /// Memory.
    #[prost(message, optional, tag = "33")]
    pub usage: Option<MemoryEntry1>,
    /// Memory and swap.
    #[prost(message, optional, tag = "34")]
    pub swap: Option<MemoryEntry1>,
}

/// `MemoryEntry` of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MemoryEntry1 {
    /// Limit.
    #[prost(uint64, tag = "1")]
    pub limit: u64,
    /// In use.
    #[prost(uint64, tag = "2")]
    pub usage: u64,
}

/// `io.containerd.cgroups.v2.Metrics`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Version2 {
    /// Processes.
    #[prost(message, optional, tag = "1")]
    pub pids: Option<Pids>,
    /// CPU.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<Cpu2>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<Memory2>,
}

/// `CPUStat` of version 2.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Cpu2 {
    /// Microseconds.
    #[prost(uint64, tag = "1")]
    pub usage_usec: u64,
}

/// `MemoryStat` of version 2.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Memory2 {
    /// Anonymous memory.
    #[prost(uint64, tag = "1")]
    pub anon: u64,
    /// Cold file pages.
    #[prost(uint64, tag = "13")]
    pub inactive_file: u64,
    /// Page faults.
    #[prost(uint64, tag = "18")]
    pub pgfault: u64,
    /// Those that read from disk.
    #[prost(uint64, tag = "19")]
    pub pgmajfault: u64,
    /// In use.
    #[prost(uint64, tag = "32")]
    pub usage: u64,
    /// Limit.
    #[prost(uint64, tag = "33")]
    pub usage_limit: u64,
    /// Swap in use.
    #[prost(uint64, tag = "34")]
    pub swap_usage: u64,
    /// Its limit.
    #[prost(uint64, tag = "35")]
    pub swap_limit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(name: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: name.to_owned(),
            value,
        }
    }

    #[test]
    fn version_1_counts_swap_together_with_memory() {
        let entry = |limit, usage| Some(MemoryEntry1 { limit, usage });
        let metrics = Version1 {
            pids: Some(Pids { current: 3 }),
            cpu: Some(Cpu1 {
                usage: Some(CpuUsage1 { total: 7 }),
            }),
            memory: Some(Memory1 {
                total_rss: 2,
                total_inactive_file: 4,
                usage: entry(100, 10),
                swap: entry(150, 15),
                ..Memory1::default()
            }),
        };
        let name = "types.containerd.io/io.containerd.cgroups.v1.Metrics";
        let read = Metrics::parse(&any(name, metrics.encode_to_vec()));
        let read = read.unwrap().unwrap();
        assert_eq!((read.cpu_usage, read.processes, read.rss), (7, 3, 2));
        assert_eq!((read.memory_usage, read.memory_limit), (10, Some(100)));
        assert_eq!((read.swap_usage, read.swap_limit), (Some(5), Some(50)));
        assert_eq!(limit(9_223_372_036_854_771_712), None);
    }

    #[test]
    fn version_2_counts_microseconds() {
        let metrics = Version2 {
            cpu: Some(Cpu2 { usage_usec: 7 }),
            memory: Some(Memory2 {
                usage: 10,
                usage_limit: u64::MAX,
                ..Memory2::default()
            }),
            ..Version2::default()
        };
        let name = "io.containerd.cgroups.v2.Metrics";
        let read = Metrics::parse(&any(name, metrics.encode_to_vec()));
        let read = read.unwrap().unwrap();
        assert_eq!((read.cpu_usage, read.memory_usage), (7000, 10));
        assert_eq!((read.memory_limit, read.swap_usage), (None, Some(0)));
    }

    #[test]
    fn other_messages_are_none_and_torn_ones_errors() {
        assert_eq!(Metrics::parse(&any("x.Metrics", Vec::new())).unwrap(), None);
        let torn = any("io.containerd.cgroups.v2.Metrics", vec![0x12, 0x7f]);
        assert!(Metrics::parse(&torn).is_err());
    }
}
