//! Making namespaces.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use crioxide_sys::namespaces::{self, Visit};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::{
    NamespaceError,
    pin::{self, Kind},
    sysctl,
};

/// Namespaces to be made; the others stay the host's.
#[derive(Debug, Clone, Default)]
pub struct NamespaceRequest {
    /// A network namespace, with nothing but a loopback interface that is down.
    pub net: bool,
    /// The network namespace to take instead of a new one.
    pub spare_net: Option<Arc<OwnedFd>>,
    /// An IPC namespace.
    pub ipc: bool,
    /// A UTS namespace.
    pub uts: bool,
    /// Host name in the new UTS namespace.
    pub hostname: Option<String>,
    /// Sysctls to set inside, in order. The caller has checked that each belongs to one of the new namespaces.
    pub sysctls: Vec<(String, String)>,
}

/// Where the new namespaces are pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinnedNamespaces {
    /// Network.
    pub net: Option<PathBuf>,
    /// IPC.
    pub ipc: Option<PathBuf>,
    /// UTS.
    pub uts: Option<PathBuf>,
    /// Users, with [`crate::create_pinned_with_users`].
    pub user: Option<PathBuf>,
}

/// Makes namespaces and pins them as `<dir>/<kind>ns/<name>`.
///
/// # Errors
/// When one cannot be made, pinned or set up; nothing of this call is left then. A pin of that name that was there
/// before is such an error, and stays.
pub fn create_pinned(
    dir: &Path,
    name: &str,
    request: &NamespaceRequest,
) -> Result<PinnedNamespaces, NamespaceError> {
    let kinds = kinds(request);
    if kinds.is_empty() {
        return Ok(PinnedNamespaces::default());
    }
    let visit = Visit::begin(flags(&kinds)).map_err(|source| NamespaceError::Make {
        action: "leave the host's namespaces",
        source,
    })?;
    let made = make(dir, name, &kinds, request);
    drop(visit);
    made
}

/// Leaves the calling thread in the new namespaces.
fn make(
    dir: &Path,
    name: &str,
    kinds: &[Kind],
    request: &NamespaceRequest,
) -> Result<PinnedNamespaces, NamespaceError> {
    make_here(request)?;
    let mut pins = NewPins::default();
    for kind in kinds {
        let path = pin::prepare(dir, *kind, name)?;
        pin::mount_on(&Path::new("/proc/thread-self/ns").join(kind.file()), &path)?;
        pins.0.push((*kind, path));
    }
    Ok(pins.keep())
}

/// The kinds that a request asks for.
pub(crate) fn kinds(request: &NamespaceRequest) -> Vec<Kind> {
    [
        (request.net, Kind::Net),
        (request.ipc, Kind::Ipc),
        (request.uts, Kind::Uts),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .map(|(_, kind)| kind)
    .collect()
}

fn flags(kinds: &[Kind]) -> UnshareFlags {
    let flag = |kind: &Kind| match kind {
        Kind::Net => UnshareFlags::NEWNET,
        Kind::Ipc => UnshareFlags::NEWIPC,
        _ => UnshareFlags::NEWUTS,
    };
    kinds.iter().map(flag).collect()
}

/// Makes the calling thread part of new namespaces, and sets them up.
pub(crate) fn make_here(request: &NamespaceRequest) -> Result<(), NamespaceError> {
    let failed = |action| move |source| NamespaceError::Make { action, source };
    let mut new = kinds(request);
    let spare = request.spare_net.as_ref().filter(|_| request.net);
    if let Some(net) = spare {
        new.retain(|kind| *kind != Kind::Net);
        move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(io::Error::from)
            .map_err(failed("enter a network namespace that was made ahead"))?;
    }
    namespaces::unshare(flags(&new)).map_err(failed("make new namespaces"))?;
    if let Some(hostname) = request.hostname.as_deref().filter(|_| request.uts) {
        rustix::system::sethostname(hostname.as_bytes()).map_err(|error| {
            NamespaceError::Hostname {
                hostname: hostname.to_owned(),
                source: io::Error::from(error),
            }
        })?;
    }
    for (key, value) in &request.sysctls {
        sysctl::set(key, value)?;
    }
    Ok(())
}

/// Pins made by one call, which go again unless all of them could be made.
#[derive(Default)]
pub(crate) struct NewPins(pub(crate) Vec<(Kind, PathBuf)>);

impl NewPins {
    pub(crate) fn keep(mut self) -> PinnedNamespaces {
        let mut pinned = PinnedNamespaces::default();
        for (kind, path) in self.0.drain(..) {
            match kind {
                Kind::Net => pinned.net = Some(path),
                Kind::Ipc => pinned.ipc = Some(path),
                Kind::User => pinned.user = Some(path),
                _ => pinned.uts = Some(path),
            }
        }
        pinned
    }
}

impl Drop for NewPins {
    fn drop(&mut self) {
        for (_, path) in &self.0 {
            // The error that matters is the one that ended the call.
            let _ = pin::remove_pin(path);
        }
    }
}
