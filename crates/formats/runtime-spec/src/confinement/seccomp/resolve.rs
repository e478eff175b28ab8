//! From a profile to the rules of one container.

use std::str::FromStr;

use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSyscall,
    LinuxSyscallBuilder,
};
use thiserror::Error;

use super::profile::{Condition, Profile, Rule};

/// What rules may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Name of the architecture as in profiles: `amd64`, `arm64`, `s390x`.
    pub arch: &'a str,
    /// Bounding set of the container.
    pub capabilities: &'a Capabilities,
    /// The running kernel.
    pub kernel: KernelVersion,
}

/// The first two numbers of a kernel release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

/// A text that is no kernel release.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{text}` is not a kernel version")]
pub struct ParseKernelVersionError {
    /// The text.
    pub text: String,
}

/// An architecture profiles know nothing about.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("seccomp profile cannot be used on unknown architecture `{arch}`")]
pub struct ResolveProfileError {
    /// Its name.
    pub arch: String,
}

impl FromStr for KernelVersion {
    type Err = ParseKernelVersionError;

    /// Reads `6.1` as well as `6.1.0-28-amd64`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(['.', '-', '+']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(ParseKernelVersionError {
                text: text.to_owned(),
            }),
        }
    }
}

/// The name profiles use for this program's architecture.
#[must_use]
pub fn native_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Profile {
    /// The rules for one container.
    ///
    /// # Errors
    /// Fails if the profile lists architectures by family and this one has none.
    pub fn resolve(&self, target: Target<'_>) -> Result<LinuxSeccomp, ResolveProfileError> {
        let mut resolved = LinuxSeccomp::default();
        resolved.set_default_action(self.default_action);
        resolved.set_default_errno_ret(self.default_errno_ret);
        resolved.set_architectures(
            Some(self.architectures_on(target.arch)?).filter(|list| !list.is_empty()),
        );
        resolved.set_flags(Some(self.flags.clone()).filter(|flags| !flags.is_empty()));
        resolved.set_listener_path(self.listener_path.as_ref().map(Into::into));
        resolved.set_listener_metadata(self.listener_metadata.clone());
        let rules = self
            .syscalls
            .iter()
            .filter(|rule| applies(rule, target))
            .map(syscall)
            .collect::<Vec<_>>();
        resolved.set_syscalls(Some(rules).filter(|rules| !rules.is_empty()));
        Ok(resolved)
    }

    fn architectures_on(&self, arch: &str) -> Result<Vec<Arch>, ResolveProfileError> {
        if self.arch_map.is_empty() {
            return Ok(self.architectures.clone());
        }
        let native = native(arch).ok_or_else(|| ResolveProfileError {
            arch: arch.to_owned(),
        })?;
        let family = self
            .arch_map
            .iter()
            .find(|family| family.architecture == native);
        Ok(family.map_or_else(Vec::new, |family| {
            std::iter::once(family.architecture)
                .chain(family.sub_architectures.iter().copied())
                .collect()
        }))
    }
}

/// All listed capabilities, one of the architectures and the kernel are needed; one listed exclusion suffices.
fn applies(rule: &Rule, target: Target<'_>) -> bool {
    let has = |name: &String| {
        crate::capabilities::parse(name, "test")
            .is_ok_and(|capability| target.capabilities.contains(&capability))
    };
    let here = |condition: &Condition| condition.arches.iter().any(|arch| arch == target.arch);
    let since = |condition: &Condition| {
        condition
            .min_kernel
            .parse::<KernelVersion>()
            .is_ok_and(|minimum| target.kernel >= minimum)
    };
    let Rule {
        includes, excludes, ..
    } = rule;
    let included = includes.caps.iter().all(has)
        && (includes.arches.is_empty() || here(includes))
        && (includes.min_kernel.is_empty() || since(includes));
    let excluded = excludes.caps.iter().any(has) || here(excludes) || since(excludes);
    included && !excluded
}

fn syscall(rule: &Rule) -> LinuxSyscall {
    let mut builder = LinuxSyscallBuilder::default()
        .names(rule.names.clone())
        .action(rule.action);
    if let Some(errno) = rule.errno_ret {
        builder = builder.errno_ret(errno);
    }
    if !rule.args.is_empty() {
        builder = builder.args(rule.args.iter().map(argument).collect::<Vec<_>>());
    }
    builder.build().expect("names and action have values")
}

/// A second value of zero is left out, as in records.
fn argument(given: &LinuxSeccompArg) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default()
        .index(given.index())
        .value(given.value())
        .op(given.op());
    match given.value_two().filter(|value| *value != 0) {
        Some(second) => builder.value_two(second),
        None => builder,
    }
    .build()
    .expect("index, value and operator have values")
}

fn native(arch: &str) -> Option<Arch> {
    Some(match arch {
        "amd64" => Arch::ScmpArchX86_64,
        "386" | "x86" => Arch::ScmpArchX86,
        "arm64" => Arch::ScmpArchAarch64,
        "arm" => Arch::ScmpArchArm,
        "ppc64le" => Arch::ScmpArchPpc64le,
        "s390x" => Arch::ScmpArchS390x,
        "s390" => Arch::ScmpArchS390,
        "mips64" => Arch::ScmpArchMips64,
        "mips64le" => Arch::ScmpArchMipsel64,
        "riscv64" => Arch::ScmpArchRiscv64,
        "loong64" | "loongarch64" => Arch::ScmpArchLoongarch64,
        _ => return None,
    })
}
