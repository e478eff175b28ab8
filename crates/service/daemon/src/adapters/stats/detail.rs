//! The figures that pod metrics need beyond those of stats: read when asked for, nothing is kept open.

use std::{fs, path::Path};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath};
use crioxide_engine::ports::{
    CpuDetail, DeviceIo, Disk, HugePages, MemoryDetail, ProcessDetail, StatsDetail, StatsReading,
};
use crioxide_files::read_to_string_limited;

/// Processes of a container that are looked at, and descriptors of each: a fork bomb must not hold monitoring up.
const PROCESSES: usize = 512;
const DESCRIPTORS: usize = 65_536;
/// Far more than any of the files of /proc read here.
const FILE: u64 = 64 << 10;

/// Adds what stats do not tell. Blocks.
pub(crate) fn read(
    reading: StatsReading,
    path: Option<&CgroupPath>,
    disk: Option<Disk>,
) -> StatsDetail {
    let mut detail = StatsDetail {
        disk: disk.filter(|_| reading.layer.is_some()),
        cgroup: reading.cgroup,
        layer: reading.layer,
        network: reading.network,
        ..StatsDetail::default()
    };
    let (Some(path), Ok(layout)) = (path, CgroupLayout::host()) else {
        return detail;
    };
    let group = Cgroup::at(layout, path.clone());
    let figures = group.detail();
    detail.cpu = CpuDetail {
        user: figures.cpu.user,
        system: figures.cpu.system,
        per_cpu: figures.cpu.per_cpu,
        periods: figures.cpu.periods,
        throttled_periods: figures.cpu.throttled_periods,
        throttled: figures.cpu.throttled,
    };
    detail.memory = MemoryDetail {
        cache: figures.memory.cache,
        kernel: figures.memory.kernel,
        mapped_file: figures.memory.mapped_file,
        failures: figures.memory.failures,
        max_usage: figures.memory.max_usage,
        page_faults: figures.memory.page_faults,
        major_page_faults: figures.memory.major_page_faults,
        reservation: figures.memory.reservation,
    };
    detail.io = figures
        .io
        .into_iter()
        .map(|io| DeviceIo {
            name: device_name(io.device),
            device: io.device,
            read_bytes: io.read_bytes,
            reads: io.reads,
            written_bytes: io.written_bytes,
            writes: io.writes,
        })
        .collect();
    detail.huge_pages = figures
        .huge_pages
        .into_iter()
        .map(|pages| HugePages {
            size: pages.size,
            usage: pages.usage,
            max_usage: pages.max_usage,
        })
        .collect();
    detail.oom_kills = figures.oom_kills;
    detail.processes = Some(processes(&group, figures.task_limit));
    detail
}

/// The file system that a directory is on.
pub(crate) fn disk(directory: &Path) -> Option<Disk> {
    let status = rustix::fs::statvfs(directory).ok()?;
    Some(Disk {
        bytes: status.f_blocks * status.f_frsize,
        inodes: status.f_files,
        free_inodes: status.f_ffree,
    })
}

fn processes(group: &Cgroup, task_limit: Option<u64>) -> ProcessDetail {
    let members = group.processes().unwrap_or_default();
    let mut detail = ProcessDetail {
        processes: members.len() as u64,
        threads_max: task_limit.unwrap_or(0),
        ..ProcessDetail::default()
    };
    for (index, process) in members.iter().take(PROCESSES).enumerate() {
        let directory = format!("/proc/{}", process.as_raw_nonzero());
        // It may end at any moment.
        if let Ok(status) = read_to_string_limited(format!("{directory}/status"), FILE) {
            detail.threads += field(&status, "Threads:").unwrap_or(0);
        }
        for entry in fs::read_dir(format!("{directory}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .take(DESCRIPTORS)
        {
            detail.descriptors += 1;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            detail.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
        if index == 0
            && let Ok(limits) = read_to_string_limited(format!("{directory}/limits"), FILE)
        {
            detail.max_open_files = field(&limits, "Max open files");
        }
    }
    detail
}

/// The first number behind a label at the beginning of a line.
fn field(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// A device's file, by the kernel's name for it.
fn device_name((major, minor): (u32, u32)) -> String {
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
    match link.file_name() {
        Some(name) => format!("/dev/{}", name.to_string_lossy()),
        None => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files() {
        let status = "Name:\tsh\nThreads:\t3\n";
        assert_eq!(field(status, "Threads:"), Some(3));
        let limits = "Limit   Soft   Hard   Units\nMax open files            1024                 524288               files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field(limits, "Max nothing"), None);
    }
}
