//! What the daemon's processes weigh, as the kernel counts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// How long an idle daemon is watched for wake-ups.
const IDLE: Duration = Duration::from_secs(5);

/// Of the clock that processor time is counted by, in a second.
const TICKS: f64 = 100.0;

/// Memory and threads at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    /// Proportional set size of the daemon, KiB: pages shared with other processes count in part.
    pub(crate) daemon: u64,
    /// What of it the daemon wrote itself, KiB: everything but its program file.
    pub(crate) daemon_private: u64,
    /// Proportional set size of all its other processes together (spawner, monitors), KiB.
    pub(crate) others: u64,
    /// How many those are.
    pub(crate) other_processes: u64,
    /// Threads of the daemon.
    pub(crate) threads: u64,
    /// Its open descriptors.
    pub(crate) descriptors: u64,
}

impl Footprint {
    /// Of the daemon `pid` and every other process of the same program file.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let program = program_of(pid).context("find the daemon's program")?;
        let mut footprint = Self {
            daemon: rollup(pid, "Pss:")?,
            daemon_private: rollup(pid, "Private_Dirty:")?,
            others: 0,
            other_processes: 0,
            threads: status(pid, "Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
                .context("list the daemon's descriptors")?
                .count() as u64,
        };
        for entry in fs::read_dir("/proc").context("list processes")? {
            let name = entry.context("list processes")?.file_name();
            let Some(other) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if other == pid || program_of(other).as_deref() != Some(program.as_path()) {
                continue;
            }
            // One that ends meanwhile weighs nothing.
            if let Ok(weight) = rollup(other, "Pss:") {
                footprint.others += weight;
                footprint.other_processes += 1;
            }
        }
        Ok(footprint)
    }
}

/// How often a second the daemon's threads give up a processor, and by that wake up again, while nothing is asked.
pub(crate) async fn wake_ups(pid: u32) -> Result<f64> {
    // What the last call left to do is not idleness.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = switches(pid)?;
    tokio::time::sleep(IDLE).await;
    let count = switches(pid)?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    Ok(count as f64 / IDLE.as_secs_f64())
}

/// The largest resident set that it had.
#[expect(clippy::cast_precision_loss, reason = "a number of KiB")]
pub(crate) fn peak_memory_mib(pid: u32) -> Result<f64> {
    Ok(status(pid, "VmHWM:")? as f64 / 1024.0)
}

/// Processor time that the daemon has used, in user mode and in the kernel.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/schedstat");
    let mut total = 0;
    for task in tasks(pid)? {
        // A thread that ended meanwhile is missed: its time is in no file any more.
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        let first = text.split_whitespace().next();
        total += first
            .and_then(|word| word.parse::<u64>().ok())
            .with_context(|| format!("read `{path}`"))?;
    }
    Ok(Duration::from_nanos(total))
}

/// Processor time of all its threads, those that ended included, to a hundredth of a second.
pub(crate) fn processor_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
    // The name before may hold anything but ends with the last bracket.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u32>().ok())
        .sum();
    Ok(f64::from(ticks) / TICKS)
}

/// Processor time that the machine has spent on anything at all, seconds.
pub(crate) fn machine_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("read `/proc/stat`")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user, nice, system; idle and iowait; irq, softirq
    let busy = [0, 1, 2, 5, 6].map(|field| fields.get(field).copied().unwrap_or(0.0));
    Ok(busy.iter().sum::<f64>() / TICKS)
}

/// Flushes that the disk below a directory has done for anybody; none where the kernel does not count them.
pub(crate) fn flushes(directory: &Path) -> Option<u64> {
    let device = std::os::unix::fs::MetadataExt::dev(&directory.metadata().ok()?);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    text.split_whitespace().nth(15)?.parse().ok()
}

fn switches(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in tasks(pid)? {
        let text = fs::read_to_string(task.join("status")).unwrap_or_default();
        total += number_of(&text, "voluntary_ctxt_switches:").unwrap_or_default();
    }
    Ok(total)
}

fn tasks(pid: u32) -> Result<Vec<PathBuf>> {
    let path = format!("/proc/{pid}/task");
    fs::read_dir(&path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("list `{path}`"))
}

fn program_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).ok()
}

fn rollup(pid: u32, key: &str) -> Result<u64> {
    value(&format!("/proc/{pid}/smaps_rollup"), key)
}

fn status(pid: u32, key: &str) -> Result<u64> {
    value(&format!("/proc/{pid}/status"), key)
}

fn value(path: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read `{path}`"))?;
    number_of(&text, key).with_context(|| format!("`{key}` in `{path}`"))
}

fn number_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighs_itself() {
        let own = Footprint::of(std::process::id()).expect("this process");
        assert!(
            own.daemon > 0 && own.threads > 0 && own.descriptors > 2,
            "{own:?}"
        );
        assert!(own.daemon_private <= own.daemon, "{own:?}");
    }

    #[test]
    fn numbers_by_key() {
        let text = "Threads:\t6\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(number_of(text, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(number_of(text, "missing:"), None);
    }
}
