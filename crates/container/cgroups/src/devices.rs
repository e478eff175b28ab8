//! Which device nodes a cgroup may use.

mod program;

use std::io;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use crate::limits::ApplyLimitsError;
use crate::{Cgroup, CgroupLayout, CgroupWarning, files};

/// The rules every container gets besides its own, as the OCI runtime specification's default devices demand: making any
/// node, and using null, zero, full, random, urandom, tty, console, ptmx and the pseudo terminals.
pub fn default_device_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    let nodes = [
        (C, 1, 3),
        (C, 1, 5),
        (C, 1, 7),
        (C, 1, 8),
        (C, 1, 9),
        (C, 5, 0),
        (C, 5, 1),
        (C, 5, 2),
        (C, 136, -1),
    ];
    let mut rules = vec![rule(C, None, None, "m"), rule(B, None, None, "m")];
    rules.extend(
        nodes.map(|(kind, major, minor)| {
            rule(kind, Some(major), (minor >= 0).then_some(minor), "rwm")
        }),
    );
    rules
}

fn rule(
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut builder = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(kind)
        .access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder
        .build()
        .expect("every field of the builder has a default")
}

/// Puts `rules` in force, the last matching one deciding.
pub(crate) fn apply(
    group: &Cgroup,
    rules: &[LinuxDeviceCgroup],
) -> Result<Option<CgroupWarning>, ApplyLimitsError> {
    let Some(directory) = group.controller_directory("devices") else {
        let message = "the host has no such controller, device rules are not in force".to_owned();
        return Ok(Some(CgroupWarning {
            controller: "devices".into(),
            message,
        }));
    };
    let fail = |source| ApplyLimitsError::Devices {
        directory: directory.clone(),
        source,
    };
    match group.layout {
        CgroupLayout::Unified(_) => attach(&directory, rules).map_err(fail)?,
        CgroupLayout::Legacy { .. } => {
            // One rule for each write, and one open for each run of rules of a kind.
            for run in rules.chunk_by(|one, next| one.allow() == next.allow()) {
                let file = if run.iter().any(LinuxDeviceCgroup::allow) {
                    "devices.allow"
                } else {
                    "devices.deny"
                };
                let lines = run.iter().filter_map(legacy_line);
                files::write_each(&directory.join(file), lines).map_err(fail)?;
            }
        }
    }
    Ok(None)
}

/// The kernel asks every program attached from here to the root, so a program of our own can only narrow. Programs of an
/// earlier `apply` are detached after the new one is in force: there is never a moment without rules.
fn attach(directory: &std::path::Path, rules: &[LinuxDeviceCgroup]) -> io::Result<()> {
    use crioxide_sys::bpf;
    let group = std::fs::File::open(directory)?;
    let before = bpf::device_programs(&group)?;
    let program = bpf::load_device_program(&program::build(rules))?;
    bpf::attach_device_program(&group, &program)?;
    for id in before {
        bpf::detach_device_program(&group, id)?;
    }
    Ok(())
}

/// `c 1:3 rwm`; a rule about no access at all has no line.
fn legacy_line(rule: &LinuxDeviceCgroup) -> Option<String> {
    let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => return Some("a".into()),
        LinuxDeviceType::B => 'b',
        LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        LinuxDeviceType::P => return None,
    };
    let number = |value: Option<i64>| match value {
        Some(value) if value >= 0 => value.to_string(),
        _ => "*".to_owned(),
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    let access = if access.is_empty() { "rwm" } else { access };
    Some(format!(
        "{kind} {}:{} {access}",
        number(rule.major()),
        number(rule.minor())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines() {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
                {"allow":true,"type":"b","major":8,"minor":-1}]"#,
        )
        .unwrap();
        let lines: Vec<_> = rules.iter().filter_map(legacy_line).collect();
        assert_eq!(lines, ["a", "c 1:3 rw", "b 8:* rwm"]);
    }

    #[test]
    fn defaults_cover_the_standard_nodes() {
        let lines: Vec<_> = default_device_rules()
            .iter()
            .filter_map(legacy_line)
            .collect();
        assert!(lines.contains(&"c 1:3 rwm".to_owned()));
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
        assert!(lines.contains(&"b *:* m".to_owned()));
    }
}
