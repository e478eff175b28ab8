//! Verdicts of the built-in profile against the recorded one, and the forms of custom ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use oci_spec::runtime::{Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction};

use super::*;
use crate::request::SpecDefaults;

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

fn default_capabilities() -> Capabilities {
    SpecDefaults::default().capabilities.into_iter().collect()
}

fn resolved(profile: &Profile, capabilities: &Capabilities, arch: &str) -> LinuxSeccomp {
    profile
        .resolve(Target {
            arch,
            capabilities,
            kernel: KERNEL,
        })
        .unwrap()
}

/// For every system call, its rules in order: action, error, arguments.
fn verdicts(filter: &LinuxSeccomp) -> BTreeMap<String, Vec<String>> {
    let mut verdicts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in filter.syscalls().iter().flatten() {
        let text = format!(
            "{:?} {:?} {:?}",
            rule.action(),
            rule.errno_ret(),
            rule.args()
        );
        for name in rule.names().iter().collect::<BTreeSet<_>>() {
            verdicts.entry(name.clone()).or_default().push(text.clone());
        }
    }
    verdicts
}

#[test]
fn builtin_equals_the_recorded_filter() {
    let recorded: LinuxSeccomp =
        serde_json::from_str(include_str!("../../../tests/golden/seccomp-amd64.json")).unwrap();
    let ours = resolved(builtin(), &default_capabilities(), "amd64");
    assert_eq!(verdicts(&ours), verdicts(&recorded));
    assert_eq!(
        (
            ours.default_action(),
            ours.default_errno_ret(),
            ours.architectures()
        ),
        (
            recorded.default_action(),
            recorded.default_errno_ret(),
            recorded.architectures()
        )
    );
}

#[test]
fn capabilities_open_their_calls() {
    let first = |capability: Option<Capability>, name: &str| {
        let mut capabilities = default_capabilities();
        capabilities.extend(capability);
        let verdicts = verdicts(&resolved(builtin(), &capabilities, "amd64"));
        verdicts
            .get(name)
            .map(|rules| rules[0].clone())
            .unwrap_or_default()
    };
    for (capability, name) in [
        (Capability::SysAdmin, "unshare"),
        (Capability::SysAdmin, "clone3"),
        (Capability::SysAdmin, "clone"),
        (Capability::SysAdmin, "sethostname"),
        (Capability::SysAdmin, "bpf"),
        (Capability::Bpf, "bpf"),
        (Capability::Perfmon, "perf_event_open"),
        (Capability::SysChroot, "chroot"),
        (Capability::SysModule, "init_module"),
        (Capability::SysPtrace, "kcmp"),
        (Capability::SysTime, "clock_settime"),
        (Capability::SysRawio, "iopl"),
        (Capability::SysPacct, "acct"),
        (Capability::DacReadSearch, "open_by_handle_at"),
        (Capability::SysTtyConfig, "vhangup"),
    ] {
        assert_eq!(
            first(Some(capability), name),
            "ScmpActAllow None None",
            "{name} with {capability:?}"
        );
        assert_ne!(
            first(None, name),
            "ScmpActAllow None None",
            "{name} without {capability:?}"
        );
    }
}

#[test]
fn architectures_have_their_own_calls() {
    let arm = resolved(builtin(), &default_capabilities(), "arm64");
    assert_eq!(
        arm.architectures(),
        &Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
    );
    let verdicts = verdicts(&arm);
    assert!(verdicts.contains_key("set_tls") && !verdicts.contains_key("arch_prctl"));
    let capabilities = default_capabilities();
    let unknown = builtin().resolve(Target {
        arch: "vax",
        capabilities: &capabilities,
        kernel: KERNEL,
    });
    assert!(unknown.unwrap_err().to_string().contains("`vax`"));
}

#[test]
fn oci_form_is_taken_as_it_is() {
    let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"flags":["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO","args":null,"errnoRet":1}]}"#;
    let filter = resolved(
        &Profile::parse("p.json", text).unwrap(),
        &HashSet::new(),
        "amd64",
    );
    assert_eq!(filter.default_action(), LinuxSeccompAction::ScmpActAllow);
    assert_eq!(filter.flags().as_ref().unwrap().len(), 1);
    assert_eq!(verdicts(&filter)["chmod"], ["ScmpActErrno Some(1) None"]);
}

#[test]
fn engine_form_knows_conditions_and_names() {
    let text = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","syscalls":[
        {"name":"read","action":"SCMP_ACT_ALLOW","includes":{},"excludes":null},
        {"names":["old"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"4.8"}},
        {"names":["new"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
        {"names":["newer"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}},
        {"names":["both"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_KILL","CAP_CHOWN"]}},
        {"names":["bad"],"action":"SCMP_ACT_ERRNO","errno":"EACCES"}]}"#;
    let profile = Profile::parse("p.json", text).unwrap();
    let filter = resolved(&profile, &HashSet::from([Capability::Kill]), "amd64");
    assert_eq!(filter.default_errno_ret(), Some(38));
    assert_eq!(
        verdicts(&filter).keys().cloned().collect::<Vec<_>>(),
        ["bad", "new", "read"]
    );
    assert_eq!(verdicts(&filter)["bad"], ["ScmpActErrno Some(13) None"]);
}

#[test]
fn mistakes_name_file_and_field() {
    let refused = |text: &str| {
        let error = Profile::parse("/etc/p.json", text.as_bytes()).unwrap_err();
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{error}: {source}")
    };
    for (text, expected) in [
        ("{", "/etc/p.json"),
        ("{}", "missing field `defaultAction`"),
        (r#"{"defaultAction":"SCMP_ACT_FOO"}"#, "SCMP_ACT_FOO"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "archMap",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}"#,
            "syscalls[0].names is empty",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
            "syscalls[0].name ",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_ERRNO","errno":"EFOO"}]}"#,
            "syscalls[0].errno",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "syscalls[0].args",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}"#,
            "syscalls[0].minKernel",
        ),
    ] {
        let message = refused(text);
        assert!(
            message.contains(expected) && message.contains("/etc/p.json"),
            "{message}"
        );
    }
}
