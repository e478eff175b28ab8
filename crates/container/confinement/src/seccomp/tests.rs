//! The compiled programs, interpreted and loaded, against what the profile says.

mod interpreter;
mod reference;

use crioxide_sys::fork::{Fork, exit_now, fork};
use crioxide_sys::reap::{Ending, wait_for};
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::architecture::{Architecture, X32_BIT};
use super::compile;
use super::filter::compile_for;
use interpreter::{Call, run};

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const ALL: [Architecture; 5] = [
    Architecture::X86_64,
    Architecture::X86,
    Architecture::X32,
    Architecture::Aarch64,
    Architecture::Arm,
];

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn call(architecture: Architecture, name: &str, arguments: [u64; 6]) -> Call {
    Call {
        number: architecture.number_of(name).unwrap(),
        architecture: architecture.audit_value(),
        arguments,
    }
}

#[test]
fn held_calls_have_names() {
    for architecture in [
        Architecture::X86_64,
        Architecture::X86,
        Architecture::X32,
        Architecture::Aarch64,
        Architecture::Arm,
    ] {
        for name in ["swapoff", "execve", "ptrace"] {
            let number = architecture.number_of(name).unwrap();
            let named = super::call_name(architecture.audit_value(), number);
            assert_eq!(named, Some(name), "{architecture:?}");
        }
        assert_eq!(super::call_name(architecture.audit_value(), 99_999), None);
    }
    assert_eq!(super::call_name(0, 1), None);
}

#[test]
fn actions_and_errnos() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
            {"names": ["close"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["open"], "action": "SCMP_ACT_TRAP"},
            {"names": ["dup"], "action": "SCMP_ACT_TRACE", "errnoRet": 9},
            {"names": ["pipe"], "action": "SCMP_ACT_LOG"},
            {"names": ["brk"], "action": "SCMP_ACT_KILL"},
        ],
    }));
    let filter = compile_for(&profile, &[Architecture::X86_64]).unwrap();
    assert_eq!(filter.unknown_names(), ["no_such_call"]);
    let verdict = |name| run(filter.program(), &call(Architecture::X86_64, name, [0; 6]));
    assert_eq!(verdict("read"), ALLOW);
    assert_eq!(verdict("write"), ERRNO | 7);
    assert_eq!(verdict("close"), 0x8000_0000);
    assert_eq!(verdict("open"), 0x0003_0000);
    assert_eq!(verdict("dup"), 0x7ff0_0009);
    assert_eq!(verdict("pipe"), 0x7ffc_0000);
    assert_eq!(verdict("brk"), 0);
    assert_eq!(verdict("socket"), ERRNO | 38);
    // Another architecture, and x32 calls when the profile does not list x32.
    assert_eq!(
        run(filter.program(), &call(Architecture::X86, "read", [0; 6])),
        0
    );
    assert_eq!(
        run(filter.program(), &call(Architecture::X32, "read", [0; 6])),
        0
    );
}

#[test]
fn newer_calls_do_not_exist() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}],
    }));
    let filter = compile_for(&profile, &[Architecture::X86_64]).unwrap();
    let verdict = |name| run(filter.program(), &call(Architecture::X86_64, name, [0; 6]));
    assert_eq!(verdict("write"), ERRNO | 1);
    assert_eq!(verdict("openat2"), ALLOW);
    assert_eq!(verdict("landlock_create_ruleset"), ERRNO | 38);
}

#[test]
fn socket_calls_cannot_hide_in_socketcall() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO"}],
    }));
    let filter = compile_for(&profile, &[Architecture::X86_64, Architecture::X86]).unwrap();
    let verdict = |which| {
        run(
            filter.program(),
            &call(Architecture::X86, "socketcall", [which, 0, 0, 0, 0, 0]),
        )
    };
    assert_eq!(verdict(1), ERRNO | 1);
    assert_eq!(verdict(2), ALLOW);
}

#[test]
fn impossible_profiles_are_refused() {
    for rule in [
        json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}),
        json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}),
        json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}),
    ] {
        assert!(
            compile(&profile(
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
            ))
            .is_err()
        );
    }
}

#[test]
fn loaded_filter_gives_the_verdicts() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71},
            {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 72,
             "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}]},
        ],
    }));
    let filter = compile(&profile).unwrap();
    let Fork::Parent(pid) = fork().unwrap() else {
        let loaded = rustix::thread::set_no_new_privs(true).is_ok() && filter.load().is_ok();
        let refused = rustix::io::dup(rustix::stdio::stderr())
            .err()
            .map(|errno| errno.raw_os_error());
        let allowed = rustix::io::dup(rustix::stdio::stdout()).is_ok();
        exit_now(i32::from(!(loaded && refused == Some(72) && allowed)));
    };
    assert_eq!(wait_for(pid).unwrap(), Ending::Exited(0));
}

fn argument() -> impl Strategy<Value = Value> {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let value = prop_oneof![
        0_u64..4,
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(u64::MAX),
        any::<u64>()
    ];
    (0_usize..6, value.clone(), value, 0..operators.len()).prop_map(move |(index, value, second, operator)| {
        json!({"index": index, "value": value, "valueTwo": second, "op": format!("SCMP_CMP_{}", operators[operator])})
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let names = [
        "read",
        "write",
        "openat",
        "clone",
        "socket",
        "socketcall",
        "ioctl",
        "execve",
        "prctl",
        "nope",
    ];
    let actions = ["ALLOW", "ERRNO", "KILL_PROCESS", "TRAP", "LOG"];
    let names = prop::collection::vec(prop::sample::select(names.to_vec()), 1..4);
    (names, 0..actions.len(), 1_u32..40, prop::collection::vec(argument(), 0..4)).prop_map(
        move |(names, action, errno, args)| {
            json!({"names": names, "action": format!("SCMP_ACT_{}", actions[action]), "errnoRet": errno, "args": args})
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn programs_mean_what_profiles_say(
        rules in prop::collection::vec(rule(), 0..12),
        default in prop::sample::select(vec!["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"]),
        arguments in prop::array::uniform6(prop_oneof![0_u64..4, Just(0x1_0000_0001), Just(u64::MAX), any::<u64>()]),
    ) {
        let profile = profile(json!({"defaultAction": default, "syscalls": rules}));
        let filter = compile_for(&profile, &ALL).unwrap();
        for architecture in ALL {
            let narrow = !architecture.is_64_bit();
            // The kernel hands 32-bit programs' arguments over with empty upper halves.
            let arguments = arguments.map(|value| if narrow { value & 0xffff_ffff } else { value });
            for number in (0..480).chain([512, 520, 1000]) {
                let number = if architecture == Architecture::X32 { number | X32_BIT } else { number };
                let call = Call { number, architecture: architecture.audit_value(), arguments };
                let expected = reference::verdict(&profile, architecture, &call);
                prop_assert_eq!(run(filter.program(), &call), expected, "{:?} call {}", architecture, number);
            }
        }
    }
}
