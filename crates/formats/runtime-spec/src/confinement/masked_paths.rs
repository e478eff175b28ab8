//! Kernel files hidden from containers.

use std::collections::BTreeSet;

/// Hidden whenever anything is to be hidden, whatever list the request gives.
const ALWAYS_MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// The paths to hide for a request: nothing if it names none (an unmasked `/proc`), else its list and the default one.
#[must_use]
pub fn masked_paths(requested: &[String]) -> Vec<String> {
    if requested.is_empty() {
        return Vec::new();
    }
    let all: BTreeSet<&str> = ALWAYS_MASKED
        .into_iter()
        .chain(requested.iter().map(String::as_str))
        .collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_added_to_any_list() {
        let masked = masked_paths(&["/proc/own".into(), "/proc/kcore".into()]);
        assert_eq!(masked.len(), ALWAYS_MASKED.len() + 1);
        assert!(masked.is_sorted() && masked.contains(&"/proc/own".to_owned()));
    }

    #[test]
    fn unmasked_stays_unmasked() {
        assert!(masked_paths(&[]).is_empty());
    }
}
