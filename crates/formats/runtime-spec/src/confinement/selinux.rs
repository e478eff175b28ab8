//! Which SELinux labels a container gets.

use crioxide_cri_api::v1::{NamespaceMode, NamespaceOption};

use crate::request::Privilege;

/// What is labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    /// Neither process nor files.
    Nothing,
    /// The files alone: the process runs unconfined.
    Files,
    /// The process and its files.
    ProcessAndFiles,
}

/// Processes in the node's network (`hostnetwork_disable_selinux`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostNetworkProcesses {
    /// Run without a label.
    Unlabelled,
    /// Are labelled like others.
    Labelled,
}

/// Decides what to label on a node with SELinux.
///
/// Sharing processes or IPC objects with the node is impossible across labels, so such containers get none.
#[must_use]
pub fn labelled(
    options: Option<&NamespaceOption>,
    privilege: Privilege,
    host_network: HostNetworkProcesses,
) -> Labelled {
    let node = |mode: fn(&NamespaceOption) -> NamespaceMode| {
        options.is_some_and(|options| mode(options) == NamespaceMode::Node)
    };
    if node(NamespaceOption::pid) || node(NamespaceOption::ipc) {
        return Labelled::Nothing;
    }
    let unlabelled_network =
        node(NamespaceOption::network) && host_network == HostNetworkProcesses::Unlabelled;
    match privilege {
        Privilege::Restricted if !unlabelled_network => Labelled::ProcessAndFiles,
        _ => Labelled::Files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_with_the_node_decides() {
        let decide = |options: NamespaceOption, privilege| {
            labelled(Some(&options), privilege, HostNetworkProcesses::Unlabelled)
        };
        let node = i32::from(NamespaceMode::Node);
        assert_eq!(
            labelled(
                None,
                Privilege::Restricted,
                HostNetworkProcesses::Unlabelled
            ),
            Labelled::ProcessAndFiles
        );
        assert_eq!(
            decide(
                NamespaceOption {
                    pid: node,
                    ..Default::default()
                },
                Privilege::Restricted
            ),
            Labelled::Nothing
        );
        assert_eq!(
            decide(
                NamespaceOption {
                    ipc: node,
                    ..Default::default()
                },
                Privilege::Privileged
            ),
            Labelled::Nothing
        );
        assert_eq!(
            decide(
                NamespaceOption {
                    network: node,
                    ..Default::default()
                },
                Privilege::Restricted
            ),
            Labelled::Files
        );
        assert_eq!(
            decide(NamespaceOption::default(), Privilege::Privileged),
            Labelled::Files
        );
        let network = NamespaceOption {
            network: node,
            ..Default::default()
        };
        assert_eq!(
            labelled(
                Some(&network),
                Privilege::Restricted,
                HostNetworkProcesses::Labelled
            ),
            Labelled::ProcessAndFiles
        );
    }
}
