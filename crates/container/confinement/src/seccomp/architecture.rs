//! Architectures and their system call numbers.

use std::collections::HashMap;
use std::sync::LazyLock;

use oci_spec::runtime::Arch;

/// Bit that marks an x32 call on x86-64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An architecture that a filter can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Architecture {
    /// The architecture this program was built for, if filters for it can be made.
    pub(super) const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// The architecture an OCI profile names; `None` for those whose calls cannot occur on ours.
    pub(super) fn from_oci(arch: Arch) -> Option<Self> {
        match arch {
            Arch::ScmpArchNative => Self::NATIVE,
            Arch::ScmpArchX86_64 => Some(Self::X86_64),
            Arch::ScmpArchX86 => Some(Self::X86),
            Arch::ScmpArchX32 => Some(Self::X32),
            Arch::ScmpArchAarch64 => Some(Self::Aarch64),
            Arch::ScmpArchArm => Some(Self::Arm),
            _ => None,
        }
    }

    /// The kernel's `AUDIT_ARCH_*` value.
    pub(super) fn audit_value(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The architecture that a held call came with.
    fn of_call(audit_value: u32, number: u32) -> Option<Self> {
        [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm]
            .into_iter()
            .find(|known| {
                let x32 = audit_value == Self::X32.audit_value() && number & X32_BIT != 0;
                known.audit_value() == audit_value && (*known == Self::X32) == x32
            })
    }

    /// Whether arguments have 64 bits.
    pub(super) fn is_64_bit(self) -> bool {
        // x32 calls come with the full registers of x86-64.
        matches!(self, Self::X86_64 | Self::X32 | Self::Aarch64)
    }

    /// The number of a system call.
    pub(super) fn number_of(self, name: &str) -> Option<u32> {
        match self {
            Self::X86_64 => NUMBERS.x86_64.get(name).copied(),
            Self::X86 => NUMBERS.x86.get(name).copied(),
            Self::Aarch64 => NUMBERS.aarch64.get(name).copied(),
            Self::Arm => NUMBERS.arm.get(name).copied(),
            Self::X32 => {
                let own = X32_ONLY
                    .iter()
                    .position(|known| *known == name)
                    .map(|index| 512 + index as u32);
                own.or_else(|| NUMBERS.x86_64.get(name).copied())
                    .map(|number| number | X32_BIT)
            }
        }
    }
}

/// The name of a system call by the kernel's `AUDIT_ARCH_*` value and its number; `None` for one that is not known.
pub fn call_name(audit_value: u32, number: u32) -> Option<&'static str> {
    let architecture = Architecture::of_call(audit_value, number)?;
    let plain = match architecture {
        Architecture::X32 => number & !X32_BIT,
        _ => number,
    };
    let plain = usize::try_from(plain).ok()?;
    Some(match architecture {
        Architecture::X86_64 => syscalls::x86_64::Sysno::new(plain)?.name(),
        Architecture::X86 => syscalls::x86::Sysno::new(plain)?.name(),
        Architecture::Aarch64 => syscalls::aarch64::Sysno::new(plain)?.name(),
        Architecture::Arm => syscalls::arm::Sysno::new(plain)?.name(),
        Architecture::X32 => match plain.checked_sub(512) {
            Some(index) => X32_ONLY.get(index)?,
            None => syscalls::x86_64::Sysno::new(plain)?.name(),
        },
    })
}

/// Calls that x32 numbers by itself, starting at 512.
const X32_ONLY: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

type Table = HashMap<&'static str, u32>;

struct Numbers {
    x86_64: Table,
    x86: Table,
    aarch64: Table,
    arm: Table,
}

/// Tables for lookups by name: the crate's own lookup compares with every name in turn.
static NUMBERS: LazyLock<Numbers> = LazyLock::new(|| Numbers {
    x86_64: table(|id| syscalls::x86_64::Sysno::new(id).map(|call| call.name())),
    x86: table(|id| syscalls::x86::Sysno::new(id).map(|call| call.name())),
    aarch64: table(|id| syscalls::aarch64::Sysno::new(id).map(|call| call.name())),
    arm: table(|id| syscalls::arm::Sysno::new(id).map(|call| call.name())),
});

fn table(name_of: impl Fn(usize) -> Option<&'static str>) -> Table {
    // The second range is where arm keeps its private calls (set_tls, cacheflush).
    (0..600)
        .chain(0xf_0000..0xf_0010)
        .filter_map(|id| Some((name_of(id)?, id as u32)))
        .collect()
}
