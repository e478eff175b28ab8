//! From a profile to a program, and the program into the kernel.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use crioxide_sys::seccomp::{FilterFlags, Instruction, load_filter};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};
use thiserror::Error;

use super::architecture::{Architecture, X32_BIT};
use super::code::{ARCHITECTURE, NUMBER, Test, branch, load, verdict};
use super::rules::{CallRules, RuleTable};

/// Kills the calling thread: what happens to calls of an architecture that is not in the profile.
const KILL_THREAD: u32 = 0;
const ENOSYS: u32 = 38;

/// Longest program the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: FilterFlags,
    unknown_names: Vec<String>,
}

/// Why a profile cannot become a filter.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// No numbers for the architecture this program runs on.
    #[error("seccomp filters are not supported on this architecture")]
    UnsupportedArchitecture,
    /// A comparison of an argument that does not exist.
    #[error("seccomp rule for `{name}` compares argument {index}, a system call has 0 to 5")]
    ArgumentIndex {
        /// First system call of the rule.
        name: String,
        /// The index asked for.
        index: usize,
    },
    /// An action that would stop the process before it runs.
    #[error(
        "seccomp rule for `{name}` notifies: the call is needed to pass the notification descriptor on"
    )]
    NotifyNeedsCall {
        /// System call.
        name: String,
    },
    /// An error number outside the kernel's range.
    #[error("seccomp errno {errno} is larger than 4095")]
    ErrnoRange {
        /// The number asked for.
        errno: u32,
    },
    /// More instructions than the kernel takes.
    #[error("seccomp profile needs {instructions} BPF instructions, the kernel takes 4096")]
    TooLong {
        /// Length of the program.
        instructions: usize,
    },
}

impl Filter {
    /// The BPF instructions.
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// System call names in the profile that none of its architectures has, for a warning.
    pub fn unknown_names(&self) -> &[String] {
        &self.unknown_names
    }

    /// Whether loading it gives a descriptor that somebody must serve.
    pub fn notifies(&self) -> bool {
        self.flags.new_listener
    }

    /// Whether actions other than allow are logged.
    pub fn is_logged(&self) -> bool {
        self.flags.log
    }

    /// Puts the calling thread under the filter for good; returns the notification descriptor if the filter notifies.
    ///
    /// # Errors
    /// What seccomp(2) reports.
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        load_filter(&self.program, self.flags)
    }
}

/// Compiles a profile.
///
/// # Errors
/// See [`CompileError`]. Unknown call names are no error, see [`Filter::unknown_names`].
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
    check(profile)?;
    let native = Architecture::NATIVE.ok_or(CompileError::UnsupportedArchitecture)?;
    let mut architectures = vec![native];
    for listed in profile
        .architectures()
        .iter()
        .flatten()
        .copied()
        .filter_map(Architecture::from_oci)
    {
        if !architectures.contains(&listed) {
            architectures.push(listed);
        }
    }
    compile_for(profile, &architectures)
}

/// Compiles for exactly these architectures.
pub(super) fn compile_for(
    profile: &LinuxSeccomp,
    architectures: &[Architecture],
) -> Result<Filter, CompileError> {
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let newer = action_for_newer_calls(profile, default);
    let mut unknown: Option<BTreeSet<String>> = None;
    let mut table_of = |architecture| {
        let mut missing = BTreeSet::new();
        let table = RuleTable::collect(rules, architecture, default, &mut missing);
        unknown = Some(match unknown.take() {
            // Known to one architecture is known.
            Some(before) => before.intersection(&missing).cloned().collect(),
            None => missing,
        });
        search(&table, default, newer)
    };

    let mut program = vec![verdict(KILL_THREAD)];
    for audit in audit_values(architectures).into_iter().rev() {
        let here: Vec<_> = architectures
            .iter()
            .copied()
            .filter(|a| a.audit_value() == audit)
            .collect();
        let mut body = vec![load(NUMBER)];
        if audit == Architecture::X86_64.audit_value() {
            let mut part = |wanted| {
                if here.contains(&wanted) {
                    table_of(wanted)
                } else {
                    vec![verdict(KILL_THREAD)]
                }
            };
            let (x32, plain) = (part(Architecture::X32), part(Architecture::X86_64));
            body.extend(branch(Test::GreaterOrEqual, X32_BIT, x32, plain));
        } else {
            here.into_iter()
                .for_each(|architecture| body.extend(table_of(architecture)));
        }
        program = branch(Test::Equal, audit, body, program);
    }
    program.insert(0, load(ARCHITECTURE));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong {
            instructions: program.len(),
        });
    }
    Ok(Filter {
        program,
        flags: flags(profile),
        unknown_names: unknown.into_iter().flatten().collect(),
    })
}

/// The distinct kernel architectures, in order.
fn audit_values(architectures: &[Architecture]) -> Vec<u32> {
    let mut values = Vec::new();
    for value in architectures.iter().map(|a| a.audit_value()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// The answer to calls with numbers above all that the profile names.
fn action_for_newer_calls(profile: &LinuxSeccomp, default: u32) -> u32 {
    use LinuxSeccompAction as Action;
    match profile.default_action() {
        Action::ScmpActAllow
        | Action::ScmpActLog
        | Action::ScmpActTrace
        | Action::ScmpActNotify => default,
        _ => Action::ScmpActErrno.as_u32(Some(ENOSYS)),
    }
}

/// Binary search over ranges of call numbers with the same answer.
fn search(table: &RuleTable, default: u32, newer: u32) -> Vec<Instruction> {
    let mut ranges: Vec<(u32, Answer<'_>)> = vec![(0, Answer::Constant(default))];
    for (number, rules) in &table.calls {
        let answer = rules
            .constant()
            .map_or(Answer::Rules(rules), Answer::Constant);
        push_range(&mut ranges, *number, answer);
        push_range(&mut ranges, *number + 1, Answer::Constant(default));
    }
    if let Some(highest) = table.highest {
        push_range(&mut ranges, highest + 1, Answer::Constant(newer));
    }
    split(&ranges, default)
}

/// Starts a new range, unless it continues the last one.
fn push_range<'a>(ranges: &mut Vec<(u32, Answer<'a>)>, start: u32, answer: Answer<'a>) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, before)| *before != answer) {
        ranges.push((start, answer));
    }
}

fn split(ranges: &[(u32, Answer<'_>)], default: u32) -> Vec<Instruction> {
    if let [(_, answer)] = ranges {
        return match answer {
            Answer::Constant(action) => vec![verdict(*action)],
            Answer::Rules(rules) => rules.code(default),
        };
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    branch(
        Test::GreaterOrEqual,
        upper[0].0,
        split(upper, default),
        split(lower, default),
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer<'a> {
    Constant(u32),
    Rules(&'a CallRules),
}

fn flags(profile: &LinuxSeccomp) -> FilterFlags {
    let listed = profile.flags().as_deref().unwrap_or_default();
    let notifies = std::iter::once(profile.default_action())
        .chain(
            profile
                .syscalls()
                .iter()
                .flatten()
                .map(|rule| rule.action()),
        )
        .any(|action| action == LinuxSeccompAction::ScmpActNotify);
    FilterFlags {
        log: listed.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagLog),
        allow_speculation: listed.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow),
        new_listener: notifies,
        wait_killable: notifies
            && listed.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv),
    }
}

fn check(profile: &LinuxSeccomp) -> Result<(), CompileError> {
    let errnos = profile
        .syscalls()
        .iter()
        .flatten()
        .map(|rule| rule.errno_ret());
    for errno in errnos.chain([profile.default_errno_ret()]).flatten() {
        if errno > 4095 {
            return Err(CompileError::ErrnoRange { errno });
        }
    }
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(CompileError::NotifyNeedsCall {
            name: "every call".to_owned(),
        });
    }
    for rule in profile.syscalls().iter().flatten() {
        let first = rule.names().first().cloned().unwrap_or_default();
        if let Some(argument) = rule
            .args()
            .iter()
            .flatten()
            .find(|argument| argument.index() > 5)
        {
            return Err(CompileError::ArgumentIndex {
                name: first,
                index: argument.index(),
            });
        }
        if rule.action() == LinuxSeccompAction::ScmpActNotify
            && let Some(name) = rule
                .names()
                .iter()
                .find(|name| matches!(name.as_str(), "write" | "sendmsg"))
        {
            return Err(CompileError::NotifyNeedsCall { name: name.clone() });
        }
    }
    Ok(())
}

/// Names of the architectures filters can be made for, as OCI spells them.
pub fn supported_architectures() -> Vec<Arch> {
    vec![
        Arch::ScmpArchX86_64,
        Arch::ScmpArchX86,
        Arch::ScmpArchX32,
        Arch::ScmpArchAarch64,
        Arch::ScmpArchArm,
    ]
}
