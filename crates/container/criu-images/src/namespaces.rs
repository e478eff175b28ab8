//! Namespaces of the tasks: those of the new container, and none besides.
//!
//! Images number namespaces; a task whose number is that of criu itself is restored where criu runs. So the numbers say
//! what is made anew.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType as Kind};

use crate::error::{FitError, Problem, Refusal};
use crate::image::{Image, named};
use crate::wire::Message;

/// Keys by which the runtimes give the pod's own.
const NETWORK_KEY: &str = "extRootNetNS";
const PIDS_KEY: &str = "extRootPidNS";
/// Where the network namespace's key stands.
const NETWORK_FIELD: u32 = 8;

/// Field of each namespace's number.
const FIELDS: &[(u32, Kind, &str)] = &[
    (5, Kind::Pid, "PID"),
    (6, Kind::Network, "network"),
    (9, Kind::Mount, "mount"),
    (10, Kind::User, "user"),
    (12, Kind::Time, "time"),
];
/// The pod's are joined before; otherwise these would be made anew.
const JOINED: &[u32] = &[7, 8];
const CGROUP: u32 = 11;

/// How the container sees the node.
#[derive(Debug)]
pub(crate) struct Namespaces<'a> {
    list: &'a [LinuxNamespace],
    /// Those of criu when the checkpoint was taken.
    outer: Message,
    /// Those of the first task that was looked at.
    first: Option<Vec<u64>>,
}

impl<'a> Namespaces<'a> {
    pub(crate) fn new(list: &'a [LinuxNamespace], outer: Message) -> Result<Self, FitError> {
        let unsupported = |what| Err(FitError::Unsupported { what });
        let joins = |kind| {
            list.iter()
                .any(|one| one.typ() == kind && one.path().is_some())
        };
        let has = |kind| list.iter().any(|one| one.typ() == kind);
        if has(Kind::User) {
            return unsupported("a user namespace");
        }
        if has(Kind::Time) {
            return unsupported("a time namespace");
        }
        if !has(Kind::Mount) || joins(Kind::Mount) {
            return unsupported("the mounts of others");
        }
        if has(Kind::Network) && !joins(Kind::Network) {
            return unsupported("a network namespace of its own");
        }
        let own = |kind| has(kind) && !joins(kind);
        if own(Kind::Ipc) || own(Kind::Uts) {
            return unsupported("an IPC or UTS namespace of its own");
        }
        Ok(Self {
            list,
            outer,
            first: None,
        })
    }

    fn find(&self, kind: Kind) -> Option<&LinuxNamespace> {
        self.list.iter().find(|one| one.typ() == kind)
    }

    /// Checks one task's numbers.
    pub(crate) fn fit(&mut self, ids: &mut Message) -> Result<(), Problem> {
        let mut numbers = Vec::new();
        for &(field, kind, name) in FIELDS {
            let (inner, outer) = (ids.number(field)?, self.outer.number(field)?);
            numbers.push(inner.unwrap_or_default());
            let wanted = self.find(kind).is_some();
            let has = match (inner, outer) {
                (Some(inner), Some(outer)) => inner != outer,
                (None, None) => false,
                _ => return Err(format!("it does not tell the {name} namespace")),
            };
            match (has, wanted) {
                (true, false) => {
                    return Err(format!(
                        "it has a {name} namespace, and the container has none"
                    ));
                }
                (false, true) => {
                    return Err(format!(
                        "it has no {name} namespace, and the container has one"
                    ));
                }
                _ => {}
            }
        }
        if ids.number(CGROUP)? != self.outer.number(CGROUP)? && self.find(Kind::Cgroup).is_none() {
            return Err("it has a cgroup namespace, and the container has none".to_owned());
        }
        numbers.push(ids.number(CGROUP)?.unwrap_or_default());
        match &self.first {
            Some(first) if *first != numbers => {
                return Err("its tasks are in different namespaces".to_owned());
            }
            _ => self.first = Some(numbers),
        }
        for &field in JOINED {
            match self.outer.number(field)? {
                Some(outer) => ids.set_number(field, outer),
                None => ids.remove(field),
            }
        }
        Ok(())
    }

    /// The network is the pod's; nothing is set in it.
    pub(crate) fn fit_network(&self, directory: &Path, name: &str) -> Result<(), FitError> {
        let key = key(directory, name, NETWORK_FIELD)?;
        if key.as_deref() != Some(NETWORK_KEY) || self.find(Kind::Network).is_none() {
            return Err(refused(name, "the network is not left to the pod"));
        }
        let mut only = Message::default();
        only.set_text(NETWORK_FIELD, NETWORK_KEY);
        let mut image = Image::read(directory, name)?;
        image.messages = vec![only];
        image.write(directory, name)
    }

    /// The processes of the pod, if it shares them.
    pub(crate) fn check_pids(&self, directory: &Path, name: &str) -> Result<(), FitError> {
        let key = key(directory, name, 1)?;
        let joined = self.find(Kind::Pid).is_some_and(|one| one.path().is_some());
        match (key.as_deref(), joined) {
            (Some(PIDS_KEY), true) | (None, false) => Ok(()),
            (Some(_), false) => Err(refused(name, "it shares processes, the container does not")),
            (_, true) => Err(refused(name, "the pod shares processes, it does not")),
        }
    }

    /// What has to be there beside the tasks.
    pub(crate) fn check_all(&self, has_network: bool, has_pids: bool) -> Result<(), FitError> {
        if self.find(Kind::Network).is_some() && !has_network {
            return Err(refused("netns", "it is not there"));
        }
        let joined = self.find(Kind::Pid).is_some_and(|one| one.path().is_some());
        if joined && !has_pids {
            return Err(refused("pidns", "the pod shares processes, it does not"));
        }
        Ok(())
    }
}

fn key(directory: &Path, name: &str, field: u32) -> Result<Option<String>, FitError> {
    let mut image = Image::read(directory, name)?;
    let read = || -> Result<_, Problem> { Ok(image.only()?.text(field)?.map(str::to_owned)) };
    Ok(with_name(name, read)?)
}

fn with_name<T>(name: &str, read: impl FnOnce() -> Result<T, Problem>) -> Result<T, Refusal> {
    read().map_err(named(name))
}

fn refused(name: &str, problem: &str) -> FitError {
    named(name)(problem.to_owned()).into()
}
