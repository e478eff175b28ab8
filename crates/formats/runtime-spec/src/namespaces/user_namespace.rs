//! The user namespace a pod asks for.

use crioxide_cri_api::v1::{self, NamespaceMode};
use thiserror::Error;

use crate::mounts::volumes::id_mapping;
use crate::namespaces::UserNamespaceSource;

/// A user namespace that cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UserNamespaceError {
    /// Neither the node's nor the pod's own.
    #[error("unsupported pod mode: {mode}")]
    Mode {
        /// Name of the mode.
        mode: &'static str,
    },
    /// Other than one range of users and one of groups.
    #[error("user namespace needs exactly one {kind} mapping, not {count}")]
    Count {
        /// `uid` or `gid`.
        kind: &'static str,
        /// How many were given.
        count: usize,
    },
    /// A range that is empty, leaves root out, or goes beyond the largest id.
    #[error("user namespace {kind} mapping {container_id}:{host_id}:{length} {problem}")]
    Range {
        /// `uid` or `gid`.
        kind: &'static str,
        /// First id inside.
        container_id: u32,
        /// First id outside.
        host_id: u32,
        /// Number of ids.
        length: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// Different ranges for users and groups.
    #[error("user namespace uid and gid mappings differ")]
    Differ,
}

/// The mappings of the pod's user namespace, or `None` if it uses the node's.
///
/// # Errors
/// Fails for modes and mappings Kubernetes does not use.
pub fn requested(
    options: Option<&v1::UserNamespace>,
) -> Result<Option<UserNamespaceSource>, UserNamespaceError> {
    let Some(options) = options else {
        return Ok(None);
    };
    match options.mode() {
        NamespaceMode::Node => return Ok(None),
        NamespaceMode::Pod => {}
        other => {
            return Err(UserNamespaceError::Mode {
                mode: other.as_str_name(),
            });
        }
    }
    let uids = checked("uid", &options.uids)?;
    let gids = checked("gid", &options.gids)?;
    if uids != gids {
        return Err(UserNamespaceError::Differ);
    }
    Ok(Some(UserNamespaceSource {
        path: None,
        uids: vec![id_mapping(uids)],
        gids: vec![id_mapping(gids)],
    }))
}

fn checked<'a>(
    kind: &'static str,
    mappings: &'a [v1::IdMapping],
) -> Result<&'a v1::IdMapping, UserNamespaceError> {
    let [mapping] = mappings else {
        return Err(UserNamespaceError::Count {
            kind,
            count: mappings.len(),
        });
    };
    let v1::IdMapping {
        host_id,
        container_id,
        length,
    } = *mapping;
    let problem = match (length, container_id, host_id.checked_add(length)) {
        (0, _, _) => "is empty",
        (_, 1.., _) => "does not map id 0",
        (_, _, None) => "goes beyond the largest id",
        _ => return Ok(mapping),
    };
    Err(UserNamespaceError::Range {
        kind,
        container_id,
        host_id,
        length,
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: NamespaceMode, mappings: &[(u32, u32, u32)]) -> v1::UserNamespace {
        let mappings: Vec<v1::IdMapping> = mappings
            .iter()
            .map(|&(container_id, host_id, length)| v1::IdMapping {
                host_id,
                container_id,
                length,
            })
            .collect();
        v1::UserNamespace {
            mode: mode.into(),
            uids: mappings.clone(),
            gids: mappings,
        }
    }

    #[test]
    fn only_one_range_with_root_is_taken() {
        assert_eq!(requested(None), Ok(None));
        assert_eq!(
            requested(Some(&options(NamespaceMode::Node, &[]))),
            Ok(None)
        );
        let mapped = requested(Some(&options(NamespaceMode::Pod, &[(0, 65536, 65536)])))
            .unwrap()
            .unwrap();
        assert_eq!(
            (mapped.uids[0].host_id(), mapped.gids[0].size()),
            (65536, 65536)
        );
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(
            requested(Some(&options(NamespaceMode::Container, &[])))
                .unwrap_err()
                .to_string(),
            "unsupported pod mode: CONTAINER"
        );
        for mappings in [
            &[][..],
            &[(0, 1, 1), (1, 5, 1)],
            &[(1, 65536, 10)],
            &[(0, 1, 0)],
            &[(0, u32::MAX, 2)],
        ] {
            assert!(
                requested(Some(&options(NamespaceMode::Pod, mappings))).is_err(),
                "{mappings:?}"
            );
        }
        let mut different = options(NamespaceMode::Pod, &[(0, 65536, 10)]);
        different.gids[0].host_id = 7;
        assert_eq!(requested(Some(&different)), Err(UserNamespaceError::Differ));
    }
}
