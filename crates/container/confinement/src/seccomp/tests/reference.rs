//! The meaning of a profile, evaluated directly and without regard for speed.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::interpreter::Call;
use crate::seccomp::architecture::Architecture;

/// What the profile says about a call.
pub(crate) fn verdict(profile: &LinuxSeccomp, architecture: Architecture, call: &Call) -> u32 {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let numbers = |rule: &LinuxSyscall| -> Vec<u32> {
        rule.names()
            .iter()
            .filter_map(|name| architecture.number_of(name))
            .collect()
    };
    let action = |rule: &LinuxSyscall| rule.action().as_u32(rule.errno_ret());
    let unconditional = |rule: &&LinuxSyscall| rule.args().iter().flatten().next().is_none();
    // Rules with the default's action say nothing.
    let about: Vec<&LinuxSyscall> = rules
        .iter()
        .filter(|rule| action(rule) != default)
        .collect();
    if let Some(rule) = about
        .iter()
        .copied()
        .filter(unconditional)
        .find(|rule| numbers(rule).contains(&call.number))
    {
        return action(rule);
    }
    for rule in about {
        let arguments: Vec<&LinuxSeccompArg> = rule.args().iter().flatten().collect();
        let holds = |argument: &&LinuxSeccompArg| compare(argument, call, architecture);
        let mut indexes: Vec<usize> = arguments.iter().map(|argument| argument.index()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let matches = if indexes.len() == arguments.len() {
            arguments.iter().all(holds)
        } else {
            arguments.iter().any(holds)
        };
        let inside_socketcall = architecture == Architecture::X86
            && arguments.is_empty()
            && Some(call.number) == architecture.number_of("socketcall")
            && rule.names().iter().any(|name| name == "socket")
            && call.arguments[0] & 0xffff_ffff == 1;
        if (numbers(rule).contains(&call.number) && matches) || inside_socketcall {
            return action(rule);
        }
    }
    let highest = rules.iter().flat_map(numbers).max();
    let strict = !matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog
    );
    if strict && highest.is_some_and(|highest| call.number > highest) {
        0x0005_0000 | 38
    } else {
        default
    }
}

fn compare(argument: &LinuxSeccompArg, call: &Call, architecture: Architecture) -> bool {
    let cut = if architecture.is_64_bit() {
        u64::MAX
    } else {
        0xffff_ffff
    };
    let actual = call.arguments[argument.index()] & cut;
    let (first, second) = (
        argument.value() & cut,
        argument.value_two().unwrap_or(0) & cut,
    );
    match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => actual != first,
        LinuxSeccompOperator::ScmpCmpLt => actual < first,
        LinuxSeccompOperator::ScmpCmpLe => actual <= first,
        LinuxSeccompOperator::ScmpCmpEq => actual == first,
        LinuxSeccompOperator::ScmpCmpGe => actual >= first,
        LinuxSeccompOperator::ScmpCmpGt => actual > first,
        LinuxSeccompOperator::ScmpCmpMaskedEq => actual & first == second,
    }
}
