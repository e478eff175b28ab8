//! Capability names, numbers and the five sets of a process.

use std::io;

use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::thread::{
    CapabilitySet, CapabilitySets as ThreadSets, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use thiserror::Error;

/// Names without their `CAP_` prefix, each at the index that is its number in the kernel.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability named as in the kernel, with or without `CAP_`, in any case.
pub fn number_of(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| *known == bare)
        .map(|index| index as u32)
}

/// The full name (`CAP_…`) of a capability number.
pub fn name_of(number: u32) -> Option<String> {
    NAMES.get(number as usize).map(|name| format!("CAP_{name}"))
}

/// The full names of all capabilities the running kernel and this crate know.
pub fn known_names() -> Vec<String> {
    (0..NAMES.len() as u32)
        .filter(|n| in_bounding_set(*n).is_some())
        .filter_map(name_of)
        .collect()
}

/// A set of capabilities, bit `n` being capability number `n`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilityMask(pub u64);

impl CapabilityMask {
    /// The capabilities of this set that `other` lacks.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The capabilities of both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nothing is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Full names of the members, by number.
    pub fn names(self) -> Vec<String> {
        (0..64)
            .filter(|n| self.0 >> n & 1 == 1)
            .filter_map(name_of)
            .collect()
    }

    fn parse(names: Option<&Capabilities>) -> Self {
        let bits = names
            .into_iter()
            .flatten()
            .filter_map(|name| number_of(&name.to_string()));
        Self(bits.fold(0, |mask, number| mask | 1 << number))
    }
}

/// The five sets a process is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessCapabilities {
    /// Upper limit for everything later executed.
    pub bounding: CapabilityMask,
    /// What is in force.
    pub effective: CapabilityMask,
    /// What may be put in force.
    pub permitted: CapabilityMask,
    /// What survives execution of files with inheritable capabilities. Never filled by itself.
    pub inheritable: CapabilityMask,
    /// What survives execution of plain files.
    pub ambient: CapabilityMask,
}

/// Why capabilities could not be applied.
#[derive(Debug, Error)]
pub enum ApplyCapabilitiesError {
    /// The bounding set.
    #[error("drop {name} from the bounding set")]
    Bounding {
        /// Capability.
        name: String,
        /// Reason.
        source: io::Error,
    },
    /// The permitted, effective and inheritable sets.
    #[error("set the capability sets")]
    Sets {
        /// Reason.
        source: io::Error,
    },
    /// The ambient set.
    #[error("raise {name} in the ambient set")]
    Ambient {
        /// Capability.
        name: String,
        /// Reason.
        source: io::Error,
    },
}

impl ProcessCapabilities {
    /// The sets of an OCI process, exactly as listed: nothing inherits into a set that is not named.
    pub fn parse(listed: &LinuxCapabilities) -> Self {
        Self {
            bounding: CapabilityMask::parse(listed.bounding().as_ref()),
            effective: CapabilityMask::parse(listed.effective().as_ref()),
            permitted: CapabilityMask::parse(listed.permitted().as_ref()),
            inheritable: CapabilityMask::parse(listed.inheritable().as_ref()),
            ambient: CapabilityMask::parse(listed.ambient().as_ref()),
        }
    }

    /// Leaves out what `available` lacks, and returns what was left out, for a warning.
    ///
    /// A host whose own bounding set lacks a capability cannot give it to anyone; the container then
    /// runs without it, as it would under the reference runtimes.
    pub fn limit_to(&mut self, available: CapabilityMask) -> CapabilityMask {
        let mut missing = 0;
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.permitted,
            &mut self.inheritable,
            &mut self.ambient,
        ] {
            missing |= set.minus(available).0;
            *set = set.and(available);
        }
        CapabilityMask(missing)
    }

    /// Drops everything else from the calling thread's bounding set. Needs `CAP_SETPCAP` in force, so it comes
    /// before the user changes.
    ///
    /// # Errors
    /// [`ApplyCapabilitiesError::Bounding`].
    pub fn apply_bounding(&self) -> Result<(), ApplyCapabilitiesError> {
        for number in 0..64 {
            if self.bounding.0 >> number & 1 == 1 || in_bounding_set(number) != Some(true) {
                continue;
            }
            remove_capability_from_bounding_set(single(number)).map_err(|errno| {
                ApplyCapabilitiesError::Bounding {
                    name: name_of(number).unwrap_or_else(|| number.to_string()),
                    source: errno.into(),
                }
            })?;
        }
        Ok(())
    }

    /// Sets the other four sets of the calling thread, after the user changed (with capabilities kept).
    ///
    /// # Errors
    /// [`ApplyCapabilitiesError::Sets`] or [`ApplyCapabilitiesError::Ambient`].
    pub fn apply_sets(&self) -> Result<(), ApplyCapabilitiesError> {
        let sets = ThreadSets {
            effective: CapabilitySet::from_bits_retain(self.effective.0),
            permitted: CapabilitySet::from_bits_retain(self.permitted.0),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable.0),
        };
        set_capabilities(None, sets).map_err(|errno| ApplyCapabilitiesError::Sets {
            source: errno.into(),
        })?;
        // Fails only on kernels without ambient capabilities, where there is nothing to clear.
        let _ = clear_ambient_capability_set();
        // The kernel takes only what is permitted and inheritable as well. A configuration that lists more gets
        // less, as under the reference runtimes, whose own example configuration does so.
        let possible = self.ambient.and(self.permitted).and(self.inheritable);
        for number in (0..64).filter(|n| possible.0 >> n & 1 == 1) {
            configure_capability_in_ambient_set(single(number), true).map_err(|errno| {
                ApplyCapabilitiesError::Ambient {
                    name: name_of(number).unwrap_or_else(|| number.to_string()),
                    source: errno.into(),
                }
            })?;
        }
        Ok(())
    }
}

/// The calling thread's bounding set.
pub fn bounding_set() -> CapabilityMask {
    let members = (0..64).filter(|n| in_bounding_set(*n) == Some(true));
    CapabilityMask(members.fold(0, |mask, number| mask | 1 << number))
}

/// Whether a capability is in the bounding set; `None` when the kernel does not know it.
fn in_bounding_set(number: u32) -> Option<bool> {
    capability_is_in_bounding_set(single(number)).ok()
}

fn single(number: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_the_kernel() {
        assert_eq!(number_of("CAP_CHOWN"), Some(0));
        assert_eq!(number_of("sys_admin"), Some(21));
        assert_eq!(number_of("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number_of("CAP_NOPE"), None);
        for number in 0..NAMES.len() as u32 {
            assert_eq!(number_of(&name_of(number).unwrap()), Some(number));
        }
        let last: usize = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(known_names().len(), NAMES.len().min(last + 1));
    }

    #[test]
    fn unlisted_sets_stay_empty() {
        let listed: LinuxCapabilities =
            serde_json::from_str(r#"{"bounding":["CAP_KILL"],"effective":["CAP_KILL"]}"#).unwrap();
        let parsed = ProcessCapabilities::parse(&listed);
        assert_eq!(parsed.bounding, CapabilityMask(1 << 5));
        assert!(
            parsed.inheritable.is_empty()
                && parsed.ambient.is_empty()
                && parsed.permitted.is_empty()
        );
    }

    #[test]
    fn capabilities_the_host_lacks_are_reported() {
        let mask = CapabilityMask(0b1011);
        let mut sets = ProcessCapabilities {
            bounding: mask,
            effective: mask,
            ..ProcessCapabilities::default()
        };
        let missing = sets.limit_to(CapabilityMask(0b0011));
        assert_eq!(missing.names(), ["CAP_FOWNER"]);
        assert_eq!(
            (sets.bounding, sets.effective),
            (CapabilityMask(0b11), CapabilityMask(0b11))
        );
    }
}
