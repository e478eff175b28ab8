//! Comparisons of system call arguments.

use crioxide_sys::seccomp::Instruction;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use super::architecture::Architecture;
use super::code::{ARGUMENTS, Test, and, load, test};

/// One comparison, ready for one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    index: u32,
    operator: LinuxSeccompOperator,
    value: u64,
    /// Only for masked equality, where `value` is what must remain.
    mask: u64,
    wide: bool,
}

impl Comparison {
    pub(super) fn new(argument: &LinuxSeccompArg, architecture: Architecture) -> Self {
        let wide = architecture.is_64_bit();
        // The profile's first value is the mask and the second what it leaves.
        let (value, mask) = match argument.op() {
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                (argument.value_two().unwrap_or(0), argument.value())
            }
            _ => (argument.value(), u64::MAX),
        };
        // A 32-bit program can only pass the lower half, which is what a profile written for both means.
        let cut = if wide { u64::MAX } else { u64::from(u32::MAX) };
        Self {
            index: argument.index() as u32,
            operator: argument.op(),
            value: value & cut,
            mask: mask & cut,
            wide,
        }
    }

    /// Equality of a 32-bit argument.
    pub(super) fn equals_narrow(index: u32, value: u32) -> Self {
        let value = u64::from(value);
        Self {
            index,
            operator: LinuxSeccompOperator::ScmpCmpEq,
            value,
            mask: u64::from(u32::MAX),
            wide: false,
        }
    }

    /// Instructions that fall through when the comparison holds, and otherwise skip `rest` more instructions.
    pub(super) fn code(&self, rest: u8) -> Vec<Instruction> {
        use LinuxSeccompOperator as Op;
        match self.operator {
            Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => self.equal(rest),
            Op::ScmpCmpNe => self.not_equal(rest),
            Op::ScmpCmpGt => self.ordered(Test::Greater, Holds::Continue, rest),
            Op::ScmpCmpGe => self.ordered(Test::GreaterOrEqual, Holds::Continue, rest),
            Op::ScmpCmpLe => self.ordered(Test::Greater, Holds::Skip, rest),
            Op::ScmpCmpLt => self.ordered(Test::GreaterOrEqual, Holds::Skip, rest),
        }
    }

    fn low(&self) -> u32 {
        self.value as u32
    }

    fn high(&self) -> u32 {
        (self.value >> 32) as u32
    }

    /// Loads the lower half; all supported architectures are little-endian.
    fn load_low(&self) -> Instruction {
        load(ARGUMENTS + 8 * self.index)
    }

    fn load_high(&self) -> Instruction {
        load(ARGUMENTS + 8 * self.index + 4)
    }

    fn equal(&self, rest: u8) -> Vec<Instruction> {
        let half = |load: Instruction, mask: u32, value: u32| {
            let mut code = vec![load];
            if mask != u32::MAX {
                code.push(and(mask));
            }
            code.push(test(Test::Equal, value, 0, 0));
            code
        };
        let mut code = Vec::new();
        if self.wide {
            code.extend(half(
                self.load_high(),
                (self.mask >> 32) as u32,
                self.high(),
            ));
        }
        code.extend(half(self.load_low(), self.mask as u32, self.low()));
        let length = code.len();
        for (position, instruction) in code.iter_mut().enumerate() {
            if instruction.code == 0x15 {
                instruction.jump_false = (length - position - 1) as u8 + rest;
            }
        }
        code
    }

    fn not_equal(&self, rest: u8) -> Vec<Instruction> {
        let mut code = Vec::new();
        if self.wide {
            // Different upper halves settle it: past the two instructions for the lower ones.
            code.extend([self.load_high(), test(Test::Equal, self.high(), 0, 2)]);
        }
        code.extend([self.load_low(), test(Test::Equal, self.low(), rest, 0)]);
        code
    }

    fn ordered(&self, kind: Test, holds: Holds, rest: u8) -> Vec<Instruction> {
        let jumps = |otherwise: u8| match holds {
            Holds::Continue => (0, otherwise),
            Holds::Skip => (otherwise, 0),
        };
        let mut code = Vec::new();
        if self.wide {
            // Greater upper half: decided. Equal: look at the lower half. Otherwise: decided the other way.
            let (greater, smaller) = match holds {
                Holds::Continue => (3, 2 + rest),
                Holds::Skip => (3 + rest, 2),
            };
            code.extend([
                self.load_high(),
                test(Test::Greater, self.high(), greater, 0),
                test(Test::Equal, self.high(), 0, smaller),
            ]);
        }
        let (on_true, on_false) = jumps(rest);
        code.extend([self.load_low(), test(kind, self.low(), on_true, on_false)]);
        code
    }
}

/// What happens when the tested order holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Continue,
    Skip,
}
