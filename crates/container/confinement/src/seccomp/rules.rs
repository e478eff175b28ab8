//! What a profile says about each system call of one architecture.

use std::collections::{BTreeMap, BTreeSet};

use crioxide_sys::seccomp::Instruction;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSyscall};

use super::architecture::Architecture;
use super::argument::Comparison;
use super::code::verdict;

/// All rules for one call.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct CallRules {
    always: Option<u32>,
    conditional: Vec<(Vec<Comparison>, u32)>,
}

impl CallRules {
    fn add(&mut self, comparisons: Vec<Comparison>, action: u32) {
        if comparisons.is_empty() {
            self.always.get_or_insert(action);
        } else {
            self.conditional.push((comparisons, action));
        }
    }

    /// Code that ends with a verdict, `default` when nothing matches.
    pub(super) fn code(&self, default: u32) -> Vec<Instruction> {
        if let Some(action) = self.always {
            return vec![verdict(action)];
        }
        let mut program = Vec::new();
        for (comparisons, action) in &self.conditional {
            // Built from the end, since each comparison skips to behind the rule when it fails.
            let mut rule = vec![verdict(*action)];
            for comparison in comparisons.iter().rev() {
                // At most six arguments of at most six instructions: far from the limit of 255.
                let mut code = comparison.code(rule.len() as u8);
                code.append(&mut rule);
                rule = code;
            }
            program.append(&mut rule);
        }
        program.push(verdict(default));
        program
    }

    /// The verdict, when it does not depend on arguments.
    pub(super) fn constant(&self) -> Option<u32> {
        self.always
    }
}

/// The rules of one architecture, by call number.
#[derive(Debug, Default)]
pub(super) struct RuleTable {
    pub(super) calls: BTreeMap<u32, CallRules>,
    /// Largest number that the profile names, whatever for.
    pub(super) highest: Option<u32>,
}

impl RuleTable {
    /// Collects the rules; names unknown to the architecture go to `unknown`.
    pub(super) fn collect(
        rules: &[LinuxSyscall],
        architecture: Architecture,
        default: u32,
        unknown: &mut BTreeSet<String>,
    ) -> Self {
        let mut table = Self::default();
        for rule in rules {
            let action = rule
                .action()
                .as_u32(rule.errno_ret().map(|errno| errno & 0xffff));
            let alternatives =
                alternatives(rule.args().as_deref().unwrap_or_default(), architecture);
            for name in rule.names() {
                if let Some(number) = architecture.number_of(name) {
                    table.highest = table.highest.max(Some(number));
                    if action != default {
                        let entry = table.calls.entry(number).or_default();
                        alternatives
                            .iter()
                            .for_each(|all| entry.add(all.clone(), action));
                    }
                } else {
                    unknown.insert(name.clone());
                }
                if architecture == Architecture::X86
                    && alternatives == [vec![]]
                    && action != default
                {
                    table.add_multiplexed(name, action);
                }
            }
        }
        table
    }

    /// Socket calls of 32-bit x86 may also come as `socketcall(which, …)`.
    fn add_multiplexed(&mut self, name: &str, action: u32) {
        let Some(which) = SOCKET_CALLS.iter().position(|known| *known == name) else {
            return;
        };
        let Some(number) = Architecture::X86.number_of("socketcall") else {
            return;
        };
        let comparison = Comparison::equals_narrow(0, which as u32 + 1);
        self.calls
            .entry(number)
            .or_default()
            .add(vec![comparison], action);
    }
}

/// The calls inside `socketcall`, the first being number 1.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The lists of comparisons of which one must hold in full.
fn alternatives(arguments: &[LinuxSeccompArg], architecture: Architecture) -> Vec<Vec<Comparison>> {
    let comparisons: Vec<_> = arguments
        .iter()
        .map(|argument| Comparison::new(argument, architecture))
        .collect();
    let indexes: BTreeSet<_> = arguments.iter().map(LinuxSeccompArg::index).collect();
    if indexes.len() == arguments.len() {
        return vec![comparisons];
    }
    // One argument compared twice: each comparison is a rule of its own.
    comparisons
        .into_iter()
        .map(|comparison| vec![comparison])
        .collect()
}
