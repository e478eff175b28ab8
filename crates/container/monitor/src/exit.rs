//! Exit records and out-of-memory marks on disk.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crioxide_files::{AtomicOptions, Sync, atomic_write};
use crioxide_monitor_protocol::ExitReport;
use crioxide_sys::reap::Ending;

/// The report of a process that ended just now.
pub(crate) fn report(ending: Ending, oom_killed: bool) -> ExitReport {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let signal = match ending {
        Ending::Signaled { signal, .. } => Some(signal),
        Ending::Exited(_) => None,
    };
    ExitReport {
        exit_code: ending.shell_code(),
        signal,
        oom_killed,
        finished_at_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
    }
}

/// Writes the code to `<persist_dir>/exit` and then to `<exit_dir>/<id>`, whose appearance is what CRI-O watches for.
/// Both are tried; the first failure is returned.
pub(crate) fn write_records(
    persist_dir: &Path,
    exit_dir: &Path,
    id: &str,
    code: i32,
) -> io::Result<()> {
    let text = code.to_string();
    let options = AtomicOptions {
        mode: 0o644,
        sync: Sync::None,
    };
    let persistent = atomic_write(persist_dir.join("exit"), text.as_bytes(), options);
    let volatile = atomic_write(exit_dir.join(id), text.as_bytes(), options);
    persistent.and(volatile).map_err(|error| error.source)
}

/// Makes the empty files that say that memory ran out.
pub(crate) fn mark_oom(bundle: &Path, persist_dir: &Path) {
    for directory in [persist_dir, bundle] {
        // The mark is one of several ways to learn of it; a full disk must not stop the rest.
        let _ = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("oom"));
    }
}
