//! The programs run on a small interpreter of the instructions they use, against rules evaluated directly.

use super::*;

struct Request {
    kind: i32,
    access: i32,
    major: i32,
    minor: i32,
}

fn run(code: &[Instruction], request: &Request) -> bool {
    let context = [
        request.access << 16 | request.kind,
        request.major,
        request.minor,
    ];
    let mut registers = [0_i32; 11];
    let mut at = 0_usize;
    loop {
        let instruction = &code[at];
        let destination = usize::from(instruction.registers & 15);
        let source = usize::from(instruction.registers >> 4);
        at += 1;
        let jump = match instruction.code {
            LOAD_WORD => {
                registers[destination] = context[instruction.offset as usize / 4];
                false
            }
            MOVE_REGISTER => {
                registers[destination] = registers[source];
                false
            }
            MOVE_VALUE => {
                registers[destination] = instruction.immediate;
                false
            }
            AND_VALUE => {
                registers[destination] &= instruction.immediate;
                false
            }
            SHIFT_RIGHT => {
                registers[destination] >>= instruction.immediate;
                false
            }
            JUMP_NOT_EQUAL_VALUE => registers[destination] != instruction.immediate,
            JUMP_NOT_EQUAL_REGISTER => registers[destination] != registers[source],
            JUMP_EQUAL_VALUE => registers[destination] == instruction.immediate,
            EXIT => return registers[0] != 0,
            other => panic!("unknown operation {other:#x}"),
        };
        if jump {
            at += instruction.offset as usize;
        }
    }
}

fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn last_matching_rule_decides() {
    let code = build(&rules(
        r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","access":"m"},
            {"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
            {"allow":true,"type":"c","major":136,"access":"rw"},
            {"allow":true,"type":"b","major":8,"access":"rwm"},
            {"allow":false,"type":"b","major":8,"minor":1,"access":"w"}]"#,
    ));
    let cases = [
        (CHARACTER, READ | WRITE, 1, 3, true),
        (CHARACTER, READ, 1, 5, false),
        (CHARACTER, MKNOD, 1, 5, true),
        (CHARACTER, READ | WRITE, 136, 77, true),
        (CHARACTER, READ | MKNOD, 136, 77, false),
        (BLOCK, READ, 8, 1, true),
        (BLOCK, READ | WRITE, 8, 1, false),
        (BLOCK, WRITE, 8, 2, true),
        (BLOCK, READ, 9, 0, false),
    ];
    for (kind, access, major, minor, expected) in cases {
        let allowed = run(
            &code,
            &Request {
                kind,
                access,
                major,
                minor,
            },
        );
        assert_eq!(allowed, expected, "{kind} {access} {major}:{minor}");
    }
}

#[test]
fn nothing_follows_an_unconditional_rule() {
    let code = build(&rules(
        r#"[{"allow":true,"type":"c","major":1,"minor":3},{"allow":true,"access":"rwm"}]"#,
    ));
    assert_eq!(
        code.iter()
            .filter(|instruction| instruction.code == EXIT)
            .count(),
        1
    );
    assert!(run(
        &code,
        &Request {
            kind: BLOCK,
            access: ALL,
            major: 8,
            minor: 0
        }
    ));
}

#[test]
fn no_rules_deny_everything() {
    assert!(!run(
        &build(&[]),
        &Request {
            kind: CHARACTER,
            access: READ,
            major: 1,
            minor: 3
        }
    ));
}
