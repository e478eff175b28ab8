//! The files that a checkpoint may hold.

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Looked into.
    Inventory,
    /// What the standard streams led to.
    Descriptors,
    /// A thread.
    Core,
    /// A task's place among the others.
    Ids,
    /// Mount table.
    Mounts,
    /// All open files.
    Files,
    /// The network namespace.
    Network,
    /// The PID namespace.
    Pids,
    /// The content of a tmpfs.
    Tmpfs,
    /// The content of a deleted file that is open.
    Ghost,
    /// Nothing in it reaches out of the container.
    Content,
    /// Not needed, or made anew.
    Dropped,
}

/// With a number before `.img`.
const NUMBERED: &[(&str, Use)] = &[
    ("core-", Use::Core),
    ("ids-", Use::Ids),
    ("mountpoints-", Use::Mounts),
    ("netns-", Use::Network),
    ("pidns-", Use::Pids),
    ("ghost-file-", Use::Ghost),
    ("fdinfo-", Use::Content),
    ("fs-", Use::Content),
    ("mm-", Use::Content),
    ("pagemap-", Use::Content),
    ("pagemap-shmem-", Use::Content),
    ("pages-", Use::Content),
    ("tcp-stream-", Use::Content),
    // The pod's own are joined.
    ("utsns-", Use::Dropped),
    ("ipcns-var-", Use::Dropped),
    ("ipcns-shm-", Use::Dropped),
    ("ipcns-msg-", Use::Dropped),
    ("ipcns-sem-", Use::Dropped),
];

const PLAIN: &[(&str, Use)] = &[
    ("inventory.img", Use::Inventory),
    ("descriptors.json", Use::Descriptors),
    ("files.img", Use::Files),
    ("pstree.img", Use::Content),
    ("eventpoll-tfd.img", Use::Content),
    ("inotify-wd.img", Use::Content),
    ("fifo-data.img", Use::Content),
    ("filelocks.img", Use::Content),
    ("memfd.img", Use::Content),
    ("pipes-data.img", Use::Content),
    ("remap-fpath.img", Use::Content),
    ("sk-queues.img", Use::Content),
    ("tty-data.img", Use::Content),
    ("tty-info.img", Use::Content),
    ("apparmor.img", Use::Dropped),
    ("cgroup.img", Use::Dropped),
    ("cpuinfo.img", Use::Dropped),
    ("irmap-cache", Use::Dropped),
    ("seccomp.img", Use::Dropped),
    ("stats-dump", Use::Dropped),
    // Offsets of clocks hold for a time namespace, which no container has.
    ("timens-0.img", Use::Dropped),
    // What podman and others leave here.
    ("dump.log", Use::Dropped),
];

/// What is done with a file of this name; `None` for one that has no business in a checkpoint.
pub(crate) fn use_of(name: &str) -> Option<Use> {
    if let Some((_, use_)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
        return Some(*use_);
    }
    let stem = name.strip_suffix(".img")?;
    let is_number = |text: &str| {
        !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    for prefix in ["tmpfs-", "tmpfs-dev-"] {
        let number = stem
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(".tar.gz"));
        if number.is_some_and(is_number) {
            return Some(Use::Tmpfs);
        }
    }
    let (_, use_) = NUMBERED
        .iter()
        .find(|(prefix, _)| stem.strip_prefix(prefix).is_some_and(is_number))?;
    Some(*use_)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_taken() {
        assert_eq!(use_of("core-1.img"), Some(Use::Core));
        assert_eq!(use_of("pagemap-shmem-12.img"), Some(Use::Content));
        assert_eq!(use_of("tmpfs-dev-73.tar.gz.img"), Some(Use::Tmpfs));
        assert_eq!(use_of("ghost-file-1f.img"), Some(Use::Ghost));
        for unknown in [
            "core-.img",
            "core-x.img",
            "core-1",
            "creds-1.img",
            "reg-files.img",
            "netdev-9.img",
            "iptables-9.img",
            "nftables-9.img",
            "route-9.img",
            "userns-9.img",
            "autofs-4.img",
            "binfmt-misc.img",
            "bpfmap-file.img",
            "tunfile.img",
            "parent",
            "pages-1.img/x",
            "",
        ] {
            assert_eq!(use_of(unknown), None, "{unknown}");
        }
    }
}
