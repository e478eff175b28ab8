//! Which profile a container asks for.

use std::path::PathBuf;

use crioxide_cri_api::v1::{SecurityProfile, security_profile::ProfileType};
use thiserror::Error;

use crate::request::Privilege;

/// The profile to use, still to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedProfile {
    /// No filter.
    Unconfined,
    /// The configured profile, or the built-in one.
    RuntimeDefault,
    /// The configured profile for privileged containers, or no filter.
    Privileged,
    /// A file on the node.
    Localhost(PathBuf),
}

/// A profile reference that names no file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WantedProfileError {
    /// Not an absolute path without `..`.
    #[error("seccomp localhost profile {path:?} is not a plain absolute path")]
    Path {
        /// The reference.
        path: String,
    },
}

/// Decides by the CRI field; an absent field means no filter.
///
/// # Errors
/// Fails for localhost references that are no plain absolute path.
pub fn wanted(
    profile: Option<&SecurityProfile>,
    privilege: Privilege,
) -> Result<WantedProfile, WantedProfileError> {
    let profile = match (privilege, profile) {
        (Privilege::Privileged, _) => return Ok(WantedProfile::Privileged),
        (Privilege::Restricted, None) => return Ok(WantedProfile::Unconfined),
        (Privilege::Restricted, Some(profile)) => profile,
    };
    match profile.profile_type() {
        ProfileType::RuntimeDefault => Ok(WantedProfile::RuntimeDefault),
        ProfileType::Unconfined => Ok(WantedProfile::Unconfined),
        ProfileType::Localhost => {
            let path = &profile.localhost_ref;
            if !path.starts_with('/')
                || path.contains('\0')
                || path.split('/').any(|part| part == "..")
            {
                return Err(WantedProfileError::Path { path: path.clone() });
            }
            Ok(WantedProfile::Localhost(path.into()))
        }
    }
}

impl WantedProfile {
    /// What the record says about it.
    #[must_use]
    pub fn record(&self) -> String {
        match self {
            Self::Unconfined | Self::Privileged => "Unconfined".to_owned(),
            Self::RuntimeDefault => "RuntimeDefault".to_owned(),
            Self::Localhost(path) => path.to_string_lossy().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(kind: ProfileType, path: &str) -> SecurityProfile {
        SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: path.into(),
        }
    }

    #[test]
    fn field_decides() {
        let choose = |profile: Option<&SecurityProfile>| {
            wanted(profile, Privilege::Restricted).unwrap().record()
        };
        assert_eq!(choose(None), "Unconfined");
        assert_eq!(choose(Some(&SecurityProfile::default())), "RuntimeDefault");
        assert_eq!(
            choose(Some(&profile(ProfileType::Unconfined, ""))),
            "Unconfined"
        );
        assert_eq!(
            choose(Some(&profile(ProfileType::Localhost, "/var/lib/p.json"))),
            "/var/lib/p.json"
        );
        assert_eq!(
            wanted(Some(&SecurityProfile::default()), Privilege::Privileged),
            Ok(WantedProfile::Privileged)
        );
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in ["", "p.json", "/a/../b", "/a\0"] {
            assert!(
                wanted(
                    Some(&profile(ProfileType::Localhost, path)),
                    Privilege::Restricted
                )
                .is_err(),
                "{path:?}"
            );
        }
    }
}
