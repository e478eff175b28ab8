//! Unit properties for scopes, slices and their limits.
//!
//! Limits go to systemd besides the cgroup files, because systemd writes what it knows again on every reload.

use oci_spec::runtime::LinuxResources;

use crate::cpu_shares_to_weight;

rustbus::dbus_variant_sig!(Value, Text => String; Texts => Vec<String>; Flag => bool; Number => u64; Numbers => Vec<u32>);

/// Name and value.
pub(super) type Entry = (String, Value);

/// Composes property lists.
pub(super) struct Property;

impl Property {
    /// A scope that holds the process `member` and leaves everything below to us.
    pub(super) fn of_scope(slice: &str, unit: &str, member: u32) -> Vec<Entry> {
        let mut list = vec![
            entry(
                "Description",
                Value::Text(format!("crioxide container {unit}")),
            ),
            entry("Slice", Value::Text(slice.into())),
            entry("PIDs", Value::Numbers(vec![member])),
            entry("Delegate", Value::Flag(true)),
            entry("DefaultDependencies", Value::Flag(false)),
        ];
        list.extend(accounting());
        list
    }

    /// A pod's slice.
    pub(super) fn of_slice(slice: &str) -> Vec<Entry> {
        let mut list = vec![
            entry("Description", Value::Text(format!("crioxide pod {slice}"))),
            entry("DefaultDependencies", Value::Flag(false)),
        ];
        // The parent follows from the name.
        if let Some(parent) = crate::slice_directory(slice).rsplit('/').nth(1) {
            list.push(entry("Wants", Value::Texts(vec![parent.to_owned()])));
        }
        list.extend(accounting());
        list
    }

    /// Limits that systemd knows; the others are only in the cgroup files.
    pub(super) fn of_resources(resources: &LinuxResources, unified: bool) -> Vec<Entry> {
        let mut list = Vec::new();
        let mut number = |name: &str, value: u64| list.push(entry(name, Value::Number(value)));
        if let Some(cpu) = resources.cpu() {
            if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
                if unified {
                    number("CPUWeight", cpu_shares_to_weight(shares));
                } else {
                    number("CPUShares", shares);
                }
            }
            if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
                number(
                    "CPUQuotaPerSecUSec",
                    quota_per_second(quota, cpu.period().unwrap_or(0)),
                );
            }
        }
        if let Some(limit) = resources
            .memory()
            .as_ref()
            .and_then(|memory| memory.limit())
            .filter(|limit| *limit != 0)
        {
            number(
                if unified { "MemoryMax" } else { "MemoryLimit" },
                or_infinity(limit),
            );
        }
        if let Some(limit) = resources
            .pids()
            .as_ref()
            .map(|pids| pids.limit())
            .filter(|limit| *limit != 0)
        {
            number("TasksMax", or_infinity(limit));
        }
        list
    }
}

fn accounting() -> [Entry; 4] {
    [
        "CPUAccounting",
        "MemoryAccounting",
        "IOAccounting",
        "TasksAccounting",
    ]
    .map(|name| entry(name, Value::Flag(true)))
}

fn entry(name: &str, value: Value) -> Entry {
    (name.to_owned(), value)
}

fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Microseconds of processor time per second, rounded up to the 10 ms that systemd rounds to in the other direction.
fn quota_per_second(quota: i64, period: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else {
        return u64::MAX;
    };
    let period = if period == 0 { 100_000 } else { period };
    let exact = quota.saturating_mul(1_000_000) / period;
    exact.div_ceil(10_000) * 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_is_per_second_and_rounded_up() {
        assert_eq!(quota_per_second(50_000, 100_000), 500_000);
        assert_eq!(quota_per_second(12_345, 0), 130_000);
        assert_eq!(quota_per_second(-1, 100_000), u64::MAX);
    }
}
