//! Which namespaces a container makes and which it joins.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::setup_error::{SetupError, at};

/// A namespace of another process, opened.
#[derive(Debug)]
pub(crate) struct JoinedNamespace {
    pub(crate) kind: LinuxNamespaceType,
    pub(crate) path: PathBuf,
    pub(crate) fd: OwnedFd,
}

/// The container's namespaces; those neither new nor joined are the host's.
#[derive(Debug)]
pub(crate) struct NamespacePlan {
    pub(crate) new: Vec<LinuxNamespaceType>,
    pub(crate) joined: Vec<JoinedNamespace>,
}

impl NamespacePlan {
    /// Opens what is to be joined.
    pub(crate) fn open(listed: &[LinuxNamespace]) -> Result<Self, SetupError> {
        let mut plan = Self {
            new: Vec::new(),
            joined: Vec::new(),
        };
        for namespace in listed {
            match namespace
                .path()
                .as_ref()
                .filter(|path| !path.as_os_str().is_empty())
            {
                None => plan.new.push(namespace.typ()),
                Some(path) => {
                    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .map_err(at("open namespace", path))?;
                    plan.joined.push(JoinedNamespace {
                        kind: namespace.typ(),
                        path: path.clone(),
                        fd,
                    });
                }
            }
        }
        // The user namespace decides about rights in the others and comes first.
        plan.joined
            .sort_by_key(|namespace| namespace.kind != LinuxNamespaceType::User);
        Ok(plan)
    }

    pub(crate) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.new.contains(&kind)
    }

    pub(crate) fn joins(&self, kind: LinuxNamespaceType) -> Option<&JoinedNamespace> {
        self.joined.iter().find(|namespace| namespace.kind == kind)
    }

    /// Whether it is not the host's, as far as the configuration says.
    pub(crate) fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.is_new(kind) || self.joins(kind).is_some()
    }

    /// The kinds that the first process is born with.
    ///
    /// The cgroup namespace is made later, inside the container's cgroup, which becomes its root; the time namespace
    /// earlier, so that its offsets can be set.
    pub(crate) fn clone_flags(&self) -> UnshareFlags {
        self.new
            .iter()
            .filter(|kind| !matches!(kind, LinuxNamespaceType::Cgroup | LinuxNamespaceType::Time))
            .fold(UnshareFlags::empty(), |flags, kind| flags | flag_of(*kind))
    }
}

/// Moves the calling process into the namespace (its future children, for pid and time).
pub(crate) fn join(namespace: &JoinedNamespace) -> Result<(), SetupError> {
    use std::os::fd::AsFd;
    // Naming the kind makes the kernel refuse a file that is a namespace of another one.
    let kind = match namespace.kind {
        LinuxNamespaceType::Mount => LinkNameSpaceType::Mount,
        LinuxNamespaceType::Cgroup => LinkNameSpaceType::ControlGroup,
        LinuxNamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        LinuxNamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
        LinuxNamespaceType::User => LinkNameSpaceType::User,
        LinuxNamespaceType::Pid => LinkNameSpaceType::ProcessID,
        LinuxNamespaceType::Network => LinkNameSpaceType::Network,
        LinuxNamespaceType::Time => LinkNameSpaceType::Time,
    };
    move_into_link_name_space(namespace.fd.as_fd(), Some(kind))
        .map_err(at("join namespace", &namespace.path))
}

/// The `CLONE_NEW*` flag of a kind.
pub(crate) fn flag_of(kind: LinuxNamespaceType) -> UnshareFlags {
    match kind {
        LinuxNamespaceType::Mount => UnshareFlags::NEWNS,
        LinuxNamespaceType::Cgroup => UnshareFlags::NEWCGROUP,
        LinuxNamespaceType::Uts => UnshareFlags::NEWUTS,
        LinuxNamespaceType::Ipc => UnshareFlags::NEWIPC,
        LinuxNamespaceType::User => UnshareFlags::NEWUSER,
        LinuxNamespaceType::Pid => UnshareFlags::NEWPID,
        LinuxNamespaceType::Network => UnshareFlags::NEWNET,
        LinuxNamespaceType::Time => UnshareFlags::NEWTIME,
    }
}
