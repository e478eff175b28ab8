//! The namespaces of a container.

pub mod user_namespace;

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType};

/// Where one namespace of a container comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NamespaceSource {
    /// The node's.
    Host,
    /// A new one.
    #[default]
    Private,
    /// An existing one, by its file.
    Path(PathBuf),
}

/// The namespaces of a container; the mount namespace is always its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceSources {
    /// Process ids.
    pub pid: NamespaceSource,
    /// Network.
    pub network: NamespaceSource,
    /// System V IPC and POSIX message queues.
    pub ipc: NamespaceSource,
    /// Host name.
    pub uts: NamespaceSource,
    /// Users, if the pod has a user namespace.
    pub user: Option<UserNamespaceSource>,
    /// A cgroup namespace, which containers get on cgroup v2 unless they are privileged.
    pub cgroup: Option<NamespaceSource>,
}

/// The pod's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNamespaceSource {
    /// Its file; `None` to create one.
    pub path: Option<PathBuf>,
    /// User ids.
    pub uids: Vec<LinuxIdMapping>,
    /// Group ids.
    pub gids: Vec<LinuxIdMapping>,
}

impl NamespaceSources {
    /// The spec's list, in the order CRI-O writes it.
    #[must_use]
    pub fn to_spec(&self) -> Vec<LinuxNamespace> {
        let private = NamespaceSource::Private;
        let user = self.user.as_ref().map(|user| {
            user.path
                .clone()
                .map_or(NamespaceSource::Private, NamespaceSource::Path)
        });
        [
            (LinuxNamespaceType::Pid, Some(&self.pid)),
            (LinuxNamespaceType::Network, Some(&self.network)),
            (LinuxNamespaceType::Ipc, Some(&self.ipc)),
            (LinuxNamespaceType::Uts, Some(&self.uts)),
            (LinuxNamespaceType::Mount, Some(&private)),
            (LinuxNamespaceType::User, user.as_ref()),
            (LinuxNamespaceType::Cgroup, self.cgroup.as_ref()),
        ]
        .into_iter()
        .filter_map(|(typ, source)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(typ);
            namespace.set_path(match source? {
                NamespaceSource::Host => return None,
                NamespaceSource::Private => None,
                NamespaceSource::Path(path) => Some(path.clone()),
            });
            Some(namespace)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_namespaces_are_left_out() {
        let sources = NamespaceSources {
            network: NamespaceSource::Host,
            ipc: NamespaceSource::Path("/var/run/ipcns/x".into()),
            user: Some(UserNamespaceSource {
                path: None,
                uids: vec![],
                gids: vec![],
            }),
            cgroup: Some(NamespaceSource::Private),
            ..NamespaceSources::default()
        };
        let types: Vec<_> = sources
            .to_spec()
            .iter()
            .map(|namespace| (namespace.typ(), namespace.path().is_some()))
            .collect();
        assert_eq!(
            types,
            [
                (LinuxNamespaceType::Pid, false),
                (LinuxNamespaceType::Ipc, true),
                (LinuxNamespaceType::Uts, false),
                (LinuxNamespaceType::Mount, false),
                (LinuxNamespaceType::User, false),
                (LinuxNamespaceType::Cgroup, false),
            ]
        );
    }
}
