//! Which AppArmor profile a container asks for.

use crioxide_cri_api::v1::{LinuxContainerSecurityContext, security_profile::ProfileType};
use thiserror::Error;

use crate::request::Privilege;

/// The profile that confines nothing.
pub const UNCONFINED: &str = "unconfined";

/// Whether the node can confine by AppArmor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppArmor {
    /// The kernel has it switched on.
    Enabled,
    /// It is absent or switched off.
    Disabled,
}

/// A profile that cannot be meant.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("AppArmor profile {profile:?} is not a profile name")]
pub struct AppArmorProfileError {
    /// The name given.
    pub profile: String,
}

/// The profile for the spec; `None` leaves the process as it is.
///
/// The CRI field beats the older string, and an absent one means `default_profile`. Whether a named profile is loaded
/// is for the caller to check.
///
/// # Errors
/// Fails for names with control characters or white space.
#[expect(deprecated, reason = "older kubelets fill only the string field")]
pub fn choose(
    security: Option<&LinuxContainerSecurityContext>,
    default_profile: &str,
    node: AppArmor,
) -> Result<Option<String>, AppArmorProfileError> {
    let privilege = match security {
        Some(security) if security.privileged => Privilege::Privileged,
        _ => Privilege::Restricted,
    };
    if node == AppArmor::Disabled || privilege == Privilege::Privileged {
        return Ok(None);
    }
    let field = security.and_then(|security| security.apparmor.as_ref());
    let older = security.map_or("", |security| security.apparmor_profile.as_str());
    let name = match field.map(|profile| (profile.profile_type(), profile.localhost_ref.as_str())) {
        Some((ProfileType::RuntimeDefault, _)) => default_profile,
        Some((ProfileType::Unconfined, _)) => UNCONFINED,
        Some((ProfileType::Localhost, name)) => name,
        None if older.is_empty() || older == "runtime/default" => default_profile,
        None => older,
    };
    let name = name.strip_prefix("localhost/").unwrap_or(name);
    let odd = |character: char| character.is_control() || character.is_whitespace();
    if name.is_empty() || name.contains(odd) {
        return Err(AppArmorProfileError {
            profile: name.to_owned(),
        });
    }
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
#[expect(deprecated, reason = "the older string field is tested too")]
mod tests {
    use crioxide_cri_api::v1::SecurityProfile;

    use super::*;

    fn context(kind: ProfileType, name: &str, older: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: name.into(),
            }),
            apparmor_profile: older.into(),
            ..Default::default()
        }
    }

    fn older(name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor_profile: name.into(),
            ..Default::default()
        }
    }

    #[test]
    fn field_beats_string_beats_default() {
        let chosen = |security: &LinuxContainerSecurityContext| {
            choose(Some(security), "crio-default", AppArmor::Enabled)
                .unwrap()
                .unwrap()
        };
        assert_eq!(
            chosen(&context(
                ProfileType::Localhost,
                "localhost/mine",
                "localhost/old"
            )),
            "mine"
        );
        assert_eq!(
            chosen(&context(ProfileType::RuntimeDefault, "", "localhost/old")),
            "crio-default"
        );
        assert_eq!(
            chosen(&context(ProfileType::Unconfined, "", "")),
            "unconfined"
        );
        assert_eq!(chosen(&older("localhost/old")), "old");
        assert_eq!(chosen(&older("unconfined")), "unconfined");
        assert_eq!(chosen(&older("runtime/default")), "crio-default");
        assert_eq!(
            choose(None, "crio-default", AppArmor::Enabled)
                .unwrap()
                .as_deref(),
            Some("crio-default")
        );
    }

    #[test]
    fn sometimes_it_does_not_apply() {
        assert_eq!(choose(None, "crio-default", AppArmor::Disabled), Ok(None));
        let privileged = LinuxContainerSecurityContext {
            privileged: true,
            ..older("localhost/old")
        };
        assert_eq!(
            choose(Some(&privileged), "crio-default", AppArmor::Enabled),
            Ok(None)
        );
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["", "a b", "a\nb"] {
            assert!(
                choose(
                    Some(&context(ProfileType::Localhost, name, "")),
                    "d",
                    AppArmor::Enabled
                )
                .is_err(),
                "{name:?}"
            );
        }
    }
}
