//! All images of a checkpoint, one after the other.

use std::fs;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::creds::Allowed;
use crate::error::{FitError, Problem};
use crate::image::{Image, named};
use crate::mounts::{self, Host};
use crate::names::{Use, use_of};
use crate::namespaces::Namespaces;
use crate::seccomp::Filters;
use crate::tasks::{self, Common};
use crate::wire::{Message, Value};
use crate::{descriptors, files, tmpfs};

/// More than a container of a full node has.
const MAX_IMAGES: usize = 500_000;

const CGROUP_MARK: u32 = 0x5938_3330;
/// The set of cgroups that criu is in, and that of the container.
const OUTER_SET: u64 = 1;
const OWN_SET: u64 = 2;

/// The container that processes are restored into.
pub struct Wanted<'a> {
    /// Its specification.
    pub spec: &'a Spec,
    /// Its cgroup, from the root of each hierarchy.
    pub cgroup: &'a str,
    /// The controllers of each hierarchy of version 1; none for version 2, which has one hierarchy.
    pub hierarchies: &'a [Vec<String>],
    /// What has to be asked of the node.
    pub host: Host<'a>,
}

impl std::fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wanted")
    }
}

/// Makes the images in `directory` those of the wanted container's processes, or refuses them.
///
/// # Errors
/// See [`FitError`]. The images are of no use then.
pub fn fit(directory: &Path, wanted: &Wanted<'_>) -> Result<(), FitError> {
    let spec = wanted.spec;
    let missing = |what| FitError::Unsupported { what };
    let process = spec.process().as_ref().ok_or(missing("no process"))?;
    let linux = spec.linux().as_ref().ok_or(missing("no Linux"))?;
    let names = list(directory)?;
    let allowed = Allowed::of(process);
    let outer = fit_inventory(directory)?;
    let spaces = linux.namespaces().as_deref().unwrap_or_default();
    let mut namespaces = Namespaces::new(spaces, outer)?;
    let filters = Filters::fit(directory, linux.seccomp().as_ref())?;
    let leaders = tasks::leaders(directory)?;
    let common = Common {
        allowed: &allowed,
        filters: &filters,
        process,
        cgroups: OWN_SET,
    };
    let mut seen = Seen::default();
    // Leaders last: what their threads are compared with is as it was.
    let mut cores = Vec::new();
    for (name, use_) in &names {
        match use_ {
            Use::Core => cores.push(name.as_str()),
            Use::Ids => {
                seen.ids = true;
                change(directory, name, |ids| namespaces.fit(ids))?;
            }
            Use::Mounts => {
                seen.mounts += 1;
                let mut image = Image::read(directory, name)?;
                let messages = std::mem::take(&mut image.messages);
                image.messages = mounts::fit(messages, spec, &wanted.host).map_err(named(name))?;
                image.write(directory, name)?;
            }
            Use::Files => {
                let image = Image::read(directory, name)?;
                for file in &image.messages {
                    files::check(file, &allowed, &wanted.host).map_err(named(name))?;
                }
                // As it was checked.
                image.write(directory, name)?;
            }
            Use::Network => {
                seen.network = true;
                namespaces.fit_network(directory, name)?;
            }
            Use::Pids => {
                seen.pids = true;
                namespaces.check_pids(directory, name)?;
            }
            Use::Tmpfs => tmpfs::fit(directory, name, spec)?,
            Use::Ghost => check_ghost(directory, name)?,
            Use::Descriptors => {
                seen.descriptors = true;
                descriptors::check(directory, name)?;
            }
            Use::Inventory | Use::Content | Use::Dropped => {}
        }
    }
    let leader_of = |name: &str| {
        let number = name.strip_prefix("core-")?.strip_suffix(".img")?;
        leaders.get(&number.parse().ok()?).copied()
    };
    let is_leader = |name: &str| leader_of(name).is_none_or(|leader| name == core_name(leader));
    cores.sort_by_key(|name| is_leader(name));
    for name in cores {
        let leader = leader_of(name).map_or_else(|| name.to_owned(), core_name);
        let leader = tasks::thread_of(directory, &leader)?;
        change(directory, name, |core| {
            common.fit(core, &leader, |ids| namespaces.fit(ids))
        })?;
    }
    seen.check()?;
    namespaces.check_all(seen.network, seen.pids)?;
    filters.write(directory)?;
    let private = spaces
        .iter()
        .any(|one| one.typ() == LinuxNamespaceType::Cgroup);
    cgroups(wanted, private).write(directory, "cgroup.img")
}

fn core_name(number: u32) -> String {
    format!("core-{number}.img")
}

/// What there has to be.
#[derive(Default)]
struct Seen {
    ids: bool,
    mounts: usize,
    network: bool,
    pids: bool,
    descriptors: bool,
}

impl Seen {
    fn check(&self) -> Result<(), FitError> {
        let missing = |name: &str| Err(named(name)("it is not there".to_owned()).into());
        match self {
            Self { ids: false, .. } => missing("ids"),
            Self { mounts: 0, .. } => missing("mountpoints"),
            Self { mounts: 2.., .. } => {
                Err(named("mountpoints")("its tasks see different mounts".to_owned()).into())
            }
            Self {
                descriptors: false, ..
            } => missing("descriptors.json"),
            _ => Ok(()),
        }
    }
}

/// The files, without those that are dropped, which are removed.
fn list(directory: &Path) -> Result<Vec<(String, Use)>, FitError> {
    let failed = |action, path: &Path, source| FitError::Io {
        action,
        path: path.to_owned(),
        source,
    };
    let entries = fs::read_dir(directory).map_err(|error| failed("list", directory, error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", directory, error))?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry
            .file_type()
            .map_err(|error| failed("look at", &path, error))?;
        let use_ = use_of(&name).filter(|_| kind.is_file());
        let Some(use_) = use_ else {
            return Err(named(&name)("it has no place in a checkpoint".to_owned()).into());
        };
        // Read below, and written anew.
        let kept_for_now = name == crate::seccomp::NAME;
        if use_ == Use::Dropped && !kept_for_now {
            fs::remove_file(&path).map_err(|error| failed("remove", &path, error))?;
            continue;
        }
        names.push((name, use_));
        if names.len() > MAX_IMAGES {
            return Err(named("all")("there are too many".to_owned()).into());
        }
    }
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

/// Changes the only message of an image.
fn change(
    directory: &Path,
    name: &str,
    change: impl FnOnce(&mut Message) -> Result<(), Problem>,
) -> Result<(), FitError> {
    let mut image = Image::read(directory, name)?;
    let changed = image.only().and_then(change);
    changed.map_err(named(name))?;
    image.write(directory, name)
}

/// Returns the namespaces that criu ran in.
fn fit_inventory(directory: &Path) -> Result<Message, FitError> {
    const NAME: &str = "inventory.img";
    let mut outer = None;
    change(directory, NAME, |inventory| {
        outer = inventory.message(3)?;
        inventory.set_number(5, OUTER_SET);
        // Profiles are the node's: which module they are for is as well.
        inventory.remove(6);
        // Extensions of criu act outside of processes.
        match inventory
            .message(12)?
            .is_some_and(|plugins| plugins.has(12))
        {
            true => Err("it needs extensions of criu".to_owned()),
            false => Ok(()),
        }
    })?;
    let outer = outer.ok_or("it does not tell namespaces".to_owned());
    Ok(outer.map_err(named(NAME))?)
}

/// A deleted file that is open is made again, as root.
fn check_ghost(directory: &Path, name: &str) -> Result<(), FitError> {
    const KIND: u32 = 0o170_000;
    let head = Image::head(directory, name)?;
    let kind = head.word(3).map_err(named(name))? & KIND;
    // Files, directories, FIFOs, links and sockets.
    match kind {
        0o100_000 | 0o040_000 | 0o010_000 | 0o120_000 | 0o140_000 => Ok(()),
        _ => Err(named(name)("it is a device".to_owned()).into()),
    }
}

/// One set of cgroups: the container's. If it is to have a cgroup namespace, they are the roots of that.
fn cgroups(wanted: &Wanted<'_>, private: bool) -> Image {
    let unified = [vec![String::new()]];
    let hierarchies = match wanted.hierarchies {
        [] => &unified,
        all => all,
    };
    let mut members = Vec::new();
    let mut controllers = Vec::new();
    for names in hierarchies {
        let mut member = Message::default();
        member.set_text(1, &names.join(","));
        member.set_text(2, wanted.cgroup);
        if private {
            member.set_number(3, wanted.cgroup.len() as u64);
        }
        members.push(Value::Bytes(member.encode()));
        // Without properties: it is made if a runtime has left that to criu, and nothing else.
        let mut directory = Message::default();
        directory.set_text(1, wanted.cgroup.trim_start_matches('/'));
        let mut controller = Message::default();
        let names = names.iter().map(|name| Value::Bytes(name.clone().into()));
        controller.set(1, names);
        controller.set_message(2, &directory);
        controllers.push(Value::Bytes(controller.encode()));
    }
    let mut set = Message::default();
    set.set_number(1, OWN_SET);
    set.set(2, members);
    let mut all = Message::default();
    all.set_message(1, &set);
    all.set(2, controllers);
    Image::new(CGROUP_MARK, vec![all])
}

#[cfg(test)]
mod tests;
