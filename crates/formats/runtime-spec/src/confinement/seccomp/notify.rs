//! Profiles whose forbidden calls are reported instead of failing at once.

use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

/// Has the calls that rules of a profile refuse or kill for held up and reported to the agent at `socket`. The default
/// action stays: the agent could not be reached without the calls that fall under it. Returns whether that one
/// forbids calls, which then nobody hears of.
pub fn hold_up_forbidden(profile: &mut LinuxSeccomp, socket: &Path) -> bool {
    let mut rules = profile.syscalls().clone();
    for rule in rules.iter_mut().flatten() {
        if forbids(rule.action()) {
            rule.set_action(LinuxSeccompAction::ScmpActNotify);
            rule.set_errno_ret(None);
        }
    }
    profile.set_syscalls(rules);
    profile.set_listener_path(Some(socket.to_owned()));
    forbids(profile.default_action())
}

fn forbids(action: LinuxSeccompAction) -> bool {
    matches!(
        action,
        LinuxSeccompAction::ScmpActErrno
            | LinuxSeccompAction::ScmpActKill
            | LinuxSeccompAction::ScmpActKillProcess
            | LinuxSeccompAction::ScmpActKillThread
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_calls_are_held_up() {
        let profile = |default: &str| -> LinuxSeccomp {
            let rules = serde_json::json!({
                "defaultAction": default,
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["swapoff"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
                    {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
                    {"names": ["mount"], "action": "SCMP_ACT_LOG"},
                ],
            });
            serde_json::from_value(rules).unwrap()
        };
        let mut held = profile("SCMP_ACT_ERRNO");
        assert!(hold_up_forbidden(&mut held, Path::new("/run/agent")));
        let seen = serde_json::to_value(&held).unwrap();
        assert_eq!(seen["listenerPath"], "/run/agent");
        assert_eq!(seen["defaultAction"], "SCMP_ACT_ERRNO");
        for (index, action) in ["ALLOW", "NOTIFY", "NOTIFY", "LOG"].iter().enumerate() {
            let rule = &seen["syscalls"][index];
            assert_eq!(rule["action"], format!("SCMP_ACT_{action}"), "{rule}");
            assert!(rule.get("errnoRet").is_none(), "{rule}");
        }
        assert!(!hold_up_forbidden(
            &mut profile("SCMP_ACT_LOG"),
            Path::new("/x")
        ));
    }
}
