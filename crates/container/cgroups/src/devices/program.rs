//! Device rules as a BPF program, which is how cgroup version 2 restricts devices.
//!
//! The program walks the rules from the last to the first and stops at the first that matches, so later rules win, as
//! they do when written one after the other to version 1's files. Without a match access is denied.

use crioxide_sys::bpf::Instruction;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

// Operation codes: class, size or source, and operation, as the kernel's `linux/bpf.h` composes them.
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_NOT_EQUAL_VALUE: u8 = 0x56;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5e;
const JUMP_EQUAL_VALUE: u8 = 0x16;
const EXIT: u8 = 0x95;

// Registers: R1 comes in as the context and is scratch afterwards.
const RESULT: u8 = 0;
const SCRATCH: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program for `rules`.
pub(super) fn build(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut code = vec![
        load(TYPE, 0),
        register(MOVE_REGISTER, ACCESS, TYPE, 0),
        value(SHIFT_RIGHT, ACCESS, 16, 0),
        value(AND_VALUE, TYPE, 0xffff, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let tests = tests(rule);
        let Some(tests) = tests else { continue };
        let unconditional = tests.is_empty();
        // Each failing test jumps past the rule's remaining tests and its two closing instructions.
        let length = tests.len() + 2;
        for (at, mut instruction) in tests.into_iter().enumerate() {
            if matches!(
                instruction.code,
                JUMP_NOT_EQUAL_VALUE | JUMP_NOT_EQUAL_REGISTER | JUMP_EQUAL_VALUE
            ) {
                instruction.offset = (length - at - 1) as i16;
            }
            code.push(instruction);
        }
        code.extend(verdict(rule.allow()));
        if unconditional {
            // The kernel refuses programs with code that cannot be reached.
            return code;
        }
    }
    code.extend(verdict(false));
    code
}

/// Instructions that leave the rule when it does not match; `None` for a rule that can never match.
fn tests(rule: &LinuxDeviceCgroup) -> Option<Vec<Instruction>> {
    let mut code = Vec::new();
    let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
        // As in version 1, `a` is about everything, whatever else the rule says.
        LinuxDeviceType::A => return Some(code),
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
        LinuxDeviceType::P => return None,
    };
    code.push(value(JUMP_NOT_EQUAL_VALUE, TYPE, kind, 0));
    let access = access_bits(rule.access().as_deref());
    if access != ALL {
        code.push(register(MOVE_REGISTER, SCRATCH, ACCESS, 0));
        code.push(value(AND_VALUE, SCRATCH, access, 0));
        code.push(if rule.allow() {
            // All that is asked for has to be allowed.
            register(JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0)
        } else {
            // Any denied part denies the whole.
            value(JUMP_EQUAL_VALUE, SCRATCH, 0, 0)
        });
    }
    for (register, number) in [(MAJOR, rule.major()), (MINOR, rule.minor())] {
        if let Some(number) = number.filter(|number| *number >= 0) {
            // Device numbers have 12 and 20 bits; a larger one matches nothing.
            code.push(value(
                JUMP_NOT_EQUAL_VALUE,
                register,
                i32::try_from(number).ok()?,
                0,
            ));
        }
    }
    Some(code)
}

fn access_bits(text: Option<&str>) -> i32 {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("rwm");
    text.chars().fold(0, |bits, letter| {
        bits | match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => 0,
        }
    })
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [
        value(MOVE_VALUE, RESULT, i32::from(allow), 0),
        value(EXIT, 0, 0, 0),
    ]
}

fn load(destination: u8, offset: i16) -> Instruction {
    Instruction {
        code: LOAD_WORD,
        registers: destination | SCRATCH << 4,
        offset,
        immediate: 0,
    }
}

fn register(code: u8, destination: u8, source: u8, offset: i16) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate: 0,
    }
}

fn value(code: u8, destination: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction {
        code,
        registers: destination,
        offset,
        immediate,
    }
}

#[cfg(test)]
mod tests;
