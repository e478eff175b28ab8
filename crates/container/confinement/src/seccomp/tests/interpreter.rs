//! The part of classic BPF that filters use, as the kernel runs it.

use crioxide_sys::seccomp::Instruction;

/// What the kernel tells a filter.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) architecture: u32,
    pub(crate) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 => {
                let value = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) {
                    value as u32
                } else {
                    (value >> 32) as u32
                }
            }
            other => panic!("load at {other}"),
        }
    }
}

/// Runs a program to its verdict; panics where the kernel would have refused it.
pub(crate) fn run(program: &[Instruction], call: &Call) -> u32 {
    let mut accumulator = 0;
    let mut position = 0;
    loop {
        let instruction = program[position];
        position += 1;
        let k = instruction.operand;
        let holds = match instruction.code {
            0x20 => {
                assert!(k.is_multiple_of(4));
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                position += k as usize;
                continue;
            }
            0x06 => return k,
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            other => panic!("instruction {other:#x}"),
        };
        position += usize::from(if holds {
            instruction.jump_true
        } else {
            instruction.jump_false
        });
    }
}
