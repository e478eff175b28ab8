//! A reader of one cgroup's usage that keeps its files open: a reading is a handful of `pread`s.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::{CgroupStats, MemoryStats, Pressure};
use crate::{Cgroup, CgroupLayout, files};

/// More than any of these files holds (`memory.stat` has some thousand bytes).
const BUFFER: usize = 32 << 10;

/// Open files of one cgroup. They keep nothing alive: the cgroup can be removed, and readings then say so.
#[derive(Debug)]
pub struct StatsReader {
    group: Cgroup,
    unified: bool,
    cpu: Option<File>,
    memory_stat: Option<File>,
    memory_usage: Option<File>,
    swap_usage: Option<File>,
    tasks: Option<File>,
    pressure: [Option<File>; 3],
}

/// Limits of memory, which change rarely.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Hard limit of memory, bytes.
    pub memory: Option<u64>,
    /// Hard limit of swap without memory, bytes.
    pub swap: Option<u64>,
}

impl StatsReader {
    /// Opens what the host has of `group`; `None` when the cgroup is not there.
    #[must_use]
    pub fn open(group: &Cgroup) -> Option<Self> {
        let unified = matches!(group.layout, CgroupLayout::Unified(_));
        let file = |controller: &str, name: &str| {
            File::open(group.controller_directory(controller)?.join(name)).ok()
        };
        let pressure = |name: &str| if unified { file("", name) } else { None };
        let reader = Self {
            unified,
            cpu: match unified {
                true => file("cpu", "cpu.stat"),
                false => file("cpuacct", "cpuacct.usage"),
            },
            memory_stat: file("memory", "memory.stat"),
            memory_usage: match unified {
                true => file("memory", "memory.current"),
                false => file("memory", "memory.usage_in_bytes"),
            },
            swap_usage: match unified {
                true => file("memory", "memory.swap.current"),
                false => file("memory", "memory.memsw.usage_in_bytes"),
            },
            tasks: file("pids", "pids.current"),
            pressure: [
                pressure("cpu.pressure"),
                pressure("memory.pressure"),
                pressure("io.pressure"),
            ],
            group: group.clone(),
        };
        (reader.descriptors() > 0).then_some(reader)
    }

    /// How many descriptors it holds.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let files = [
            &self.cpu,
            &self.memory_stat,
            &self.memory_usage,
            &self.swap_usage,
            &self.tasks,
        ];
        let open = |files: &mut dyn Iterator<Item = &Option<File>>| files.flatten().count();
        open(&mut files.into_iter()) + open(&mut self.pressure.iter())
    }

    /// Reads the limits, by their paths.
    #[must_use]
    pub fn limits(&self) -> MemoryLimits {
        let Some(directory) = self.group.controller_directory("memory") else {
            return MemoryLimits::default();
        };
        let number = |file: &str| files::read_number(&directory.join(file)).ok().flatten();
        if self.unified {
            return MemoryLimits {
                memory: number("memory.max"),
                swap: number("memory.swap.max"),
            };
        }
        let memory = number("memory.limit_in_bytes");
        MemoryLimits {
            memory,
            swap: number("memory.memsw.limit_in_bytes")
                .map(|both| both.saturating_sub(memory.unwrap_or(0))),
        }
    }

    /// Reads the present figures with `limits` filled in; what the host does not tell is `None`. The answer is `None`
    /// when the cgroup is gone.
    #[must_use]
    pub fn read(&self, limits: MemoryLimits, buffer: &mut StatsBuffer) -> Option<CgroupStats> {
        let mut gone = false;
        let mut text = |file: &Option<File>, use_text: &mut dyn FnMut(&str)| {
            let Some(file) = file else { return };
            match buffer.read(file) {
                Ok(text) => use_text(text),
                // A removed cgroup's files answer ENODEV.
                Err(error) => gone |= error.raw_os_error() == Some(ENODEV),
            }
        };
        let mut stats = CgroupStats::default();
        let unified = self.unified;
        text(&self.cpu, &mut |text| {
            stats.cpu_usage = match unified {
                true => files::keyed(text, "usage_usec").map(Duration::from_micros),
                false => text.trim().parse().ok().map(Duration::from_nanos),
            }
        });
        let mut usage = None;
        text(&self.memory_usage, &mut |text| usage = number(text));
        text(&self.memory_stat, &mut |text| {
            stats.memory = usage.map(|usage| MemoryStats::from_stat(usage, text, unified));
        });
        text(&self.swap_usage, &mut |text| {
            if let (Some(memory), Some(usage)) = (&mut stats.memory, number(text)) {
                memory.swap_usage = Some(match unified {
                    true => usage,
                    false => usage.saturating_sub(memory.usage),
                });
            }
        });
        text(&self.tasks, &mut |text| stats.tasks = number(text));
        let [cpu, memory, io] = &self.pressure;
        for (file, to) in [
            (cpu, &mut stats.cpu_pressure),
            (memory, &mut stats.memory_pressure),
            (io, &mut stats.io_pressure),
        ] {
            text(file, &mut |text| *to = Pressure::parse(text));
        }
        if let Some(memory) = &mut stats.memory {
            memory.limit = limits.memory;
            memory.swap_limit = limits.swap;
        }
        (!gone).then_some(stats)
    }
}

/// `ENODEV` of Linux, on every architecture.
const ENODEV: i32 = 19;

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Room for one file at a time, to be used for many readings.
#[derive(Debug)]
pub struct StatsBuffer(Box<[u8]>);

impl Default for StatsBuffer {
    fn default() -> Self {
        Self(vec![0; BUFFER].into())
    }
}

impl StatsBuffer {
    /// The whole file. The kernel makes its text anew for every read and hands it out in one piece.
    fn read(&mut self, file: &File) -> io::Result<&str> {
        let length = loop {
            match file.read_at(&mut self.0, 0) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                length => break length?,
            }
        };
        std::str::from_utf8(&self.0[..length]).map_err(|_| ErrorKind::InvalidData.into())
    }
}

impl Cgroup {
    /// Reads the present figures; what cannot be read is `None`.
    #[must_use]
    pub fn stats(&self) -> CgroupStats {
        let task_limit = self
            .controller_directory("pids")
            .and_then(|d| number_at(&d.join("pids.max")));
        let read = StatsReader::open(self)
            .and_then(|reader| reader.read(reader.limits(), &mut StatsBuffer::default()));
        CgroupStats {
            task_limit,
            ..read.unwrap_or_default()
        }
    }
}

fn number_at(path: &Path) -> Option<u64> {
    files::read_number(path).ok().flatten()
}
