//! Building blocks of classic BPF programs.

use crioxide_sys::seccomp::Instruction;

/// Offset of the call number in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
/// Offset of the architecture.
pub(super) const ARCHITECTURE: u32 = 4;
/// Offset of the first argument; each has eight bytes.
pub(super) const ARGUMENTS: u32 = 16;

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// Loads 32 bits of the call's data.
pub(super) fn load(offset: u32) -> Instruction {
    plain(0x20, offset)
}

/// Masks the accumulator.
pub(super) fn and(mask: u32) -> Instruction {
    plain(0x54, mask)
}

/// Ends with a verdict.
pub(super) fn verdict(action: u32) -> Instruction {
    plain(0x06, action)
}

/// Skips `count` instructions.
pub(super) fn skip(count: usize) -> Instruction {
    plain(0x05, count as u32)
}

/// Skips `on_true` or `on_false` instructions.
pub(super) fn test(test: Test, operand: u32, on_true: u8, on_false: u8) -> Instruction {
    let code = match test {
        Test::Equal => 0x15,
        Test::Greater => 0x25,
        Test::GreaterOrEqual => 0x35,
    };
    Instruction {
        code,
        jump_true: on_true,
        jump_false: on_false,
        operand,
    }
}

/// Runs `on_true` if the comparison holds, else `on_false`. Both must end with a verdict.
pub(super) fn branch(
    kind: Test,
    operand: u32,
    on_true: Vec<Instruction>,
    on_false: Vec<Instruction>,
) -> Vec<Instruction> {
    let mut program = Vec::with_capacity(on_true.len() + on_false.len() + 2);
    // Conditional jumps reach 255 instructions; beyond that an unconditional one is put between.
    match u8::try_from(on_false.len()) {
        Ok(distance) => program.push(test(kind, operand, distance, 0)),
        Err(_) => {
            program.push(test(kind, operand, 0, 1));
            program.push(skip(on_false.len()));
        }
    }
    program.extend(on_false);
    program.extend(on_true);
    program
}

fn plain(code: u16, operand: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        operand,
    }
}
