//! The user namespace of a pod, as its record and requests state it.

use std::path::PathBuf;

use crioxide_cri_api::v1;
use crioxide_node_records::annotations::values::{IdMapping, NamespaceOptions};
use crioxide_runtime_spec::namespaces::{UserNamespaceSource, user_namespace};

use crate::ports::Owner;

/// The user namespace that a pod's record names, pinned at `path`; `None` for the node's.
pub(crate) fn of_record(
    options: &NamespaceOptions,
    path: Option<PathBuf>,
) -> Option<UserNamespaceSource> {
    let recorded = options.userns_options.as_ref()?;
    let mappings = |list: &[IdMapping]| {
        let mapping = |mapping: &IdMapping| v1::IdMapping {
            host_id: mapping.host_id,
            container_id: mapping.container_id,
            length: mapping.length,
        };
        list.iter().map(mapping).collect()
    };
    let options = v1::UserNamespace {
        mode: recorded.mode,
        uids: mappings(&recorded.uids),
        gids: mappings(&recorded.gids),
    };
    // What is recorded was checked when the pod was made.
    let source = user_namespace::requested(Some(&options)).ok()??;
    Some(UserNamespaceSource { path, ..source })
}

/// Who is root in a user namespace.
pub(crate) fn root_of(user: Option<&UserNamespaceSource>) -> Option<Owner> {
    let user = user?;
    let root = |list: &[oci_spec::runtime::LinuxIdMapping]| {
        list.iter()
            .find(|mapping| mapping.container_id() == 0)
            .map(oci_spec::runtime::LinuxIdMapping::host_id)
    };
    Some(Owner {
        uid: root(&user.uids)?,
        gid: root(&user.gids)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_mapping_comes_back() {
        let mapping = IdMapping {
            host_id: 131_072,
            container_id: 0,
            length: 65536,
        };
        let mut options = NamespaceOptions {
            userns_options: Some(crioxide_node_records::annotations::values::UserNamespace {
                mode: v1::NamespaceMode::Pod.into(),
                uids: vec![mapping],
                gids: vec![mapping],
            }),
            ..NamespaceOptions::default()
        };
        let user = of_record(&options, Some("/run/userns/x".into())).unwrap();
        assert_eq!(user.path.as_deref(), Some("/run/userns/x".as_ref()));
        let root = root_of(Some(&user)).unwrap();
        assert_eq!((root.uid, root.gid), (131_072, 131_072));
        if let Some(user) = &mut options.userns_options {
            user.mode = v1::NamespaceMode::Node.into();
        }
        assert_eq!(of_record(&options, None), None);
    }
}
