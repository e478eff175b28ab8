//! Which capabilities a container's process gets.

use std::collections::HashSet;

use crioxide_cri_api::v1;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use thiserror::Error;

/// A capability nobody knows.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown capability \"{name}\" to {action}")]
pub struct UnknownCapabilityError {
    /// The name with `CAP_`.
    pub name: String,
    /// `add`, `drop`, or `use by default`.
    pub action: &'static str,
}

/// Whether the inheritable set is filled too.
///
/// Leaving it empty is the default: file capabilities would otherwise regain what the container's user lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InheritableSet {
    /// Nothing is inheritable.
    #[default]
    Empty,
    /// As the permitted set.
    AsPermitted,
}

/// Parses a name with or without `CAP_`, in any case.
///
/// # Errors
/// Fails for names that are no capability; `action` tells what it was for.
pub fn parse(name: &str, action: &'static str) -> Result<Capability, UnknownCapabilityError> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    serde_json::from_value(serde_json::Value::String(full.clone()))
        .map_err(|_| UnknownCapabilityError { name: full, action })
}

/// The configured default, changed by the request.
///
/// `ALL` stands for everything in `bounding`, the most this node can give. As soon as `ALL` is added or dropped, the
/// configured default no longer plays a part.
///
/// # Errors
/// Fails for unknown names.
pub fn select(
    requested: Option<&v1::Capability>,
    defaults: &[Capability],
    bounding: &Capabilities,
) -> Result<Capabilities, UnknownCapabilityError> {
    let (add, drop) = requested.map_or((&[][..], &[][..]), |request| {
        (
            &request.add_capabilities[..],
            &request.drop_capabilities[..],
        )
    });
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let (add_all, drop_all) = (add.iter().any(is_all), drop.iter().any(is_all));
    let mut selected: Capabilities = match (add_all, drop_all) {
        (_, true) => HashSet::new(),
        (true, false) => bounding.clone(),
        (false, false) => defaults.iter().copied().collect(),
    };
    for name in add.iter().filter(|name| !is_all(name)) {
        selected.insert(parse(name, "add")?);
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        selected.remove(&parse(name, "drop")?);
    }
    Ok(selected)
}

/// The sets of the OCI spec; the ambient set stays empty.
#[must_use]
pub fn sets(selected: &Capabilities, inheritable: InheritableSet) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(selected.clone()));
    sets.set_effective(Some(selected.clone()));
    sets.set_permitted(Some(selected.clone()));
    sets.set_inheritable((inheritable == InheritableSet::AsPermitted).then(|| selected.clone()));
    sets.set_ambient(None);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(add: &[&str], drop: &[&str]) -> v1::Capability {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        v1::Capability {
            add_capabilities: owned(add),
            drop_capabilities: owned(drop),
            add_ambient_capabilities: vec!["CAP_SYS_ADMIN".into()],
        }
    }

    fn chosen(add: &[&str], drop: &[&str]) -> Capabilities {
        select(
            Some(&request(add, drop)),
            &[Capability::Chown, Capability::Kill],
            &bounding(),
        )
        .unwrap()
    }

    fn bounding() -> Capabilities {
        HashSet::from([Capability::Chown, Capability::Kill, Capability::NetAdmin])
    }

    #[test]
    fn names_in_every_spelling() {
        for name in ["CAP_SYS_ADMIN", "sys_admin", "SYS_ADMIN", "cap_sys_admin"] {
            assert_eq!(parse(name, "add").unwrap(), Capability::SysAdmin);
        }
        assert_eq!(
            parse("foo", "add").unwrap_err().to_string(),
            "unknown capability \"CAP_FOO\" to add"
        );
        assert_eq!(
            select(Some(&request(&[], &["X"])), &[], &bounding())
                .unwrap_err()
                .action,
            "drop"
        );
    }

    #[test]
    fn request_changes_the_default() {
        assert_eq!(
            select(None, &[Capability::Kill], &bounding()).unwrap(),
            HashSet::from([Capability::Kill])
        );
        assert_eq!(
            chosen(&["NET_RAW"], &["KILL"]),
            HashSet::from([Capability::Chown, Capability::NetRaw])
        );
        assert_eq!(
            chosen(&["ALL"], &["KILL"]),
            HashSet::from([Capability::Chown, Capability::NetAdmin])
        );
        assert_eq!(
            chosen(&["NET_RAW"], &["all"]),
            HashSet::from([Capability::NetRaw])
        );
        assert_eq!(chosen(&["ALL"], &["ALL"]), HashSet::new());
    }

    #[test]
    fn inheritable_and_ambient_stay_empty() {
        let empty = sets(&bounding(), InheritableSet::Empty);
        assert_eq!((empty.inheritable(), empty.ambient()), (&None, &None));
        assert_eq!(
            sets(&bounding(), InheritableSet::AsPermitted).inheritable(),
            &Some(bounding())
        );
    }
}
