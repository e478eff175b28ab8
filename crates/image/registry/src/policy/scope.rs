//! Transports and the scopes that an image of each belongs to.

/// Where an image comes from, as policy.json calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A registry.
    Docker,
    /// An OCI layout directory.
    Oci,
    /// A tar of an OCI layout.
    OciArchive,
    /// A file of `docker save`.
    DockerArchive,
    /// A directory of blobs.
    Dir,
    /// Another store of the machine.
    ContainersStorage,
}

impl Transport {
    /// The name in policy.json and in front of references.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Dir => "dir",
            Self::ContainersStorage => "containers-storage",
        }
    }

    /// The scopes of an image, most specific first; the last, empty, is the transport's own default.
    pub(super) fn scopes(self, identity: &str) -> Vec<String> {
        let mut scopes = match self {
            Self::Docker => registry_scopes(identity),
            Self::ContainersStorage => store_scopes(identity),
            _ => path_scopes(identity),
        };
        scopes.push(String::new());
        scopes
    }
}

/// `host/a/b:tag`, `host/a/b`, `host/a`, `host`, `*.domain`.
pub(crate) fn registry_scopes(reference: &str) -> Vec<String> {
    let mut scopes = vec![reference.to_owned()];
    let slash = reference.rfind('/').unwrap_or(0);
    let end = reference[slash..]
        .find([':', '@'])
        .map_or(reference.len(), |at| slash + at);
    let mut rest = &reference[..end];
    loop {
        scopes.push(rest.to_owned());
        match rest.rsplit_once('/') {
            Some((shorter, _)) => rest = shorter,
            None => break,
        }
    }
    while let Some((_, domain)) = rest.split_once('.') {
        scopes.push(format!("*.{domain}"));
        rest = domain;
    }
    scopes
}

/// `[driver@root+run]name`, `[driver@root]name`, both without the name, `[root]`.
fn store_scopes(identity: &str) -> Vec<String> {
    let (place, name) = identity.split_at(identity.find(']').map_or(0, |end| end + 1));
    let inner = place.trim_start_matches('[').trim_end_matches(']');
    let store = inner.split(['+', ':']).next().unwrap_or_default();
    let root = store.split_once('@').map_or(store, |(_, root)| root);
    let mut scopes = vec![
        identity.to_owned(),
        format!("[{store}]{name}"),
        place.to_owned(),
        format!("[{store}]"),
        format!("[{root}]"),
    ];
    scopes.dedup();
    scopes
}

/// `/a/b:ref`, `/a/b`, `/a`; the root itself is no scope.
fn path_scopes(identity: &str) -> Vec<String> {
    let mut scopes = vec![identity.to_owned()];
    let mut rest = match identity.rsplit_once(':') {
        Some((path, _)) => {
            scopes.push(path.to_owned());
            path
        }
        None => identity,
    };
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        if shorter.is_empty() {
            break;
        }
        scopes.push(shorter.to_owned());
        rest = shorter;
    }
    scopes
}
