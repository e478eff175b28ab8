//! The mount table: each of its mounts is one that the new container has, and none of those is missing.
//!
//! criu mounts as root, before it leaves the node's files: what it may mount is decided here. Flags are made those of the
//! new container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use crate::error::Problem;
use crate::wire::Message;

const TYPE: u32 = 1;
const ID: u32 = 2;
const DEVICE: u32 = 3;
const PARENT: u32 = 4;
const FLAGS: u32 = 5;
const ROOT: u32 = 6;
const PLACE: u32 = 7;
const OPTIONS: u32 = 9;
const PLUGIN: u32 = 12;
const EXTERNAL: u32 = 13;
const DELETED: u32 = 16;
const KEY: u32 = 18;

const TMPFS: u32 = 5;
const CGROUP: u32 = 12;
const CGROUP2: u32 = 23;

const READ_ONLY: u32 = 1;
const RESTRICTIONS: &[(&str, &str, u32)] = &[
    ("ro", "rw", READ_ONLY),
    ("nosuid", "suid", 2),
    ("nodev", "dev", 4),
    ("noexec", "exec", 8),
];

const CGROUPS: &str = "/sys/fs/cgroup";
const NULL: &str = "/dev/null";

/// What the node says to a mount table.
pub struct Host<'a> {
    /// Whether something is at this path in the container, before anything is restored.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// Flags of the mount that a file of the node is on.
    pub flags: &'a dyn Fn(&Path) -> u32,
    /// Whose a file of the container is, as far as it is not restored itself.
    pub owner: &'a dyn Fn(&Path) -> Option<FileOwner>,
}

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// Permissions.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

struct Entry {
    message: Message,
    id: u32,
    parent: u32,
    place: PathBuf,
    used: bool,
}

/// Checks the table and makes its flags the container's.
pub(crate) fn fit(
    messages: Vec<Message>,
    spec: &Spec,
    host: &Host<'_>,
) -> Result<Vec<Message>, Problem> {
    let mut table = Table::read(messages)?;
    table.check_tree()?;
    table.root(spec)?;
    let mut places = BTreeMap::new();
    for mount in spec.mounts().iter().flatten() {
        // One over another hides it.
        places.insert(clean(mount.destination()), mount);
    }
    let missing: Vec<String> = places
        .iter()
        .filter(|(place, _)| table.find(place).is_none())
        .map(|(place, _)| place.display().to_string())
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "the container mounts {}, which was not there",
            missing.join(", ")
        ));
    }
    for (place, mount) in &places {
        match is_bind(mount) {
            true => table.bind(place, mount, host)?,
            false => table.made(place, mount)?,
        }
    }
    let linux = spec.linux().as_ref();
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
    for path in masked.into_iter().flatten() {
        table.mask(&clean(Path::new(path)), host)?;
    }
    let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref());
    for path in read_only.into_iter().flatten() {
        table.read_only(&clean(Path::new(path)), host)?;
    }
    if let Some(other) = table.entries.iter().find(|entry| !entry.used) {
        return Err(format!(
            "something is mounted at {}, which the container does not mount",
            other.place.display()
        ));
    }
    let label = linux.and_then(|linux| linux.mount_label().as_deref());
    let label = label.filter(|label| !label.is_empty());
    let mut fitted = Vec::new();
    for mut entry in table.entries {
        if let Some(options) = entry.message.text(OPTIONS)? {
            let options = labelled(options, label);
            entry.message.set_text(OPTIONS, &options);
        }
        fitted.push(entry.message);
    }
    Ok(fitted)
}

struct Table {
    entries: Vec<Entry>,
}

impl Table {
    fn read(messages: Vec<Message>) -> Result<Self, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        for message in messages {
            if message.word(PLUGIN)? != 0 || message.word(DELETED)? != 0 {
                return Err("a mount is of a kind that is not restored".to_owned());
            }
            let place = message.text(PLACE)?.unwrap_or_default();
            let canonical = place == "/"
                || place.strip_prefix('/').is_some_and(|path| {
                    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
                });
            if !canonical {
                return Err(format!("{place:?} is no place for a mount"));
            }
            let entry = Entry {
                id: message.word(ID)?,
                parent: message.word(PARENT)?,
                place: place.into(),
                used: false,
                message,
            };
            if let Some(other) = entries
                .iter()
                .find(|other| other.id == entry.id || other.place == entry.place)
            {
                return Err(format!(
                    "there are two mounts at {} or of its number",
                    other.place.display()
                ));
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    fn find(&self, place: &Path) -> Option<usize> {
        self.entries.iter().position(|entry| entry.place == place)
    }

    /// The mount that a place is on.
    fn above(&self, place: &Path) -> Option<&Entry> {
        let above = self
            .entries
            .iter()
            .filter(|entry| place != entry.place && place.starts_with(&entry.place));
        above.max_by_key(|entry| entry.place.components().count())
    }

    /// Each mount is on the one that its place is on: none is hidden by another.
    fn check_tree(&self) -> Result<(), Problem> {
        for entry in &self.entries {
            match self.above(&entry.place) {
                Some(above) if above.id == entry.parent => {}
                None if entry.place == Path::new("/") => {}
                _ => {
                    return Err(format!(
                        "the mount at {} is hidden by another",
                        entry.place.display()
                    ));
                }
            }
        }
        Ok(())
    }

    fn root(&mut self, spec: &Spec) -> Result<(), Problem> {
        let at = self.find(Path::new("/")).ok_or("it has no root")?;
        let root = spec.root().as_ref();
        if root.and_then(oci_spec::runtime::Root::readonly) == Some(true) {
            self.restrict(at, READ_ONLY)?;
        }
        self.entries[at].used = true;
        Ok(())
    }

    /// A file or directory of the node.
    fn bind(&mut self, place: &Path, mount: &Mount, host: &Host<'_>) -> Result<(), Problem> {
        let (own, recursive) = restrictions(mount);
        let source = mount.source().as_deref();
        let of_source = source.map_or(0, host.flags);
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if !entry.place.starts_with(place) || entry.used {
                continue;
            }
            let below = entry.place != place;
            if outside(&entry.message)?.map(Path::new) != Some(&entry.place) {
                if below {
                    continue;
                }
                return Err(format!(
                    "the mount at {} does not come from outside",
                    place.display()
                ));
            }
            let flags = match below {
                true => recursive,
                false => own | recursive | of_source,
            };
            self.restrict(at, flags)?;
            self.entries[at].used = true;
        }
        Ok(())
    }

    /// A file system that is made for the container.
    fn made(&mut self, place: &Path, mount: &Mount) -> Result<(), Problem> {
        let at = self.find(place).ok_or("a mount is missing")?;
        let kind = mount.typ().as_deref().unwrap_or_default();
        let message = &self.entries[at].message;
        let found = message.word(TYPE)?;
        let root = message.text(ROOT)?;
        let fits = match kind {
            "proc" => found == 1,
            "sysfs" => found == 2,
            "tmpfs" => found == TMPFS,
            "devpts" => found == 6,
            "mqueue" => found == 14,
            "cgroup" | "cgroup2" => {
                found == CGROUP2 || (found == TMPFS && place == Path::new(CGROUPS))
            }
            _ => false,
        };
        if !fits || outside(message)?.is_some() || (root != Some("/") && found != CGROUP2) {
            return Err(format!(
                "the mount at {} is not of type {kind} (criu's type {found}, root {root:?})",
                place.display()
            ));
        }
        let (own, recursive) = restrictions(mount);
        self.restrict(at, own | recursive)?;
        self.entries[at].used = true;
        if found != TMPFS || !matches!(kind, "cgroup" | "cgroup2") {
            return Ok(());
        }
        // Version 1: one for each hierarchy, of which the container sees its own part.
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if entry.place == place || !entry.place.starts_with(place) {
                continue;
            }
            let key = outside(&entry.message)?.map(Path::new);
            if entry.message.word(TYPE)? != CGROUP || key != Some(&entry.place) {
                return Err(format!(
                    "the mount at {} is no cgroup",
                    entry.place.display()
                ));
            }
            self.restrict(at, own | recursive)?;
            self.entries[at].used = true;
        }
        Ok(())
    }

    /// A path that the container must not see.
    fn mask(&mut self, place: &Path, host: &Host<'_>) -> Result<(), Problem> {
        let Some(at) = self.find(place) else {
            return self.absent(place, host);
        };
        let message = &self.entries[at].message;
        let key = outside(message)?;
        // Runtimes name it by what hides it or by its place; both is `/dev/null` to them.
        let file =
            key == Some(NULL) || (key.map(Path::new) == Some(place) && !self.entries[at].used);
        let directory = message.word(TYPE)? == TMPFS && key.is_none();
        if !file && !directory {
            return Err(format!("{} is not hidden", place.display()));
        }
        if directory {
            self.restrict(at, READ_ONLY)?;
        }
        self.entries[at].used = true;
        Ok(())
    }

    /// A path that the container must not write.
    fn read_only(&mut self, place: &Path, host: &Host<'_>) -> Result<(), Problem> {
        let Some(at) = self.find(place) else {
            return self.absent(place, host);
        };
        if self.entries[at].used {
            return self.restrict(at, READ_ONLY);
        }
        let above = self.above(place).ok_or("it has no root")?;
        let message = &self.entries[at].message;
        let rest = place.strip_prefix(&above.place).unwrap_or(place);
        let from = Path::new(above.message.text(ROOT)?.unwrap_or("/")).join(rest);
        let same = message.number(DEVICE)? == above.message.number(DEVICE)?
            && message.word(TYPE)? == above.message.word(TYPE)?
            && message.text(ROOT)?.map(Path::new) == Some(&from);
        if !same || outside(message)?.is_some() {
            return Err(format!("something else is mounted at {}", place.display()));
        }
        self.restrict(at, READ_ONLY)?;
        self.entries[at].used = true;
        Ok(())
    }

    /// What is not mounted must not be there at all.
    fn absent(&self, place: &Path, host: &Host<'_>) -> Result<(), Problem> {
        match (host.exists)(place) {
            true => Err(format!(
                "{} is neither hidden nor read-only, as it is in the container",
                place.display()
            )),
            false => Ok(()),
        }
    }

    fn restrict(&mut self, at: usize, flags: u32) -> Result<(), Problem> {
        let message = &mut self.entries[at].message;
        let all = message.word(FLAGS)? | flags;
        message.set_number(FLAGS, all.into());
        Ok(())
    }
}

/// The name by which a mount comes from outside. In older images it stands where the root does otherwise.
fn outside(message: &Message) -> Result<Option<&str>, Problem> {
    let key = message.text(KEY)?;
    match message.word(EXTERNAL)? {
        0 => Ok(key),
        _ if key.is_some() => Err("a mount has two names".to_owned()),
        _ => message.text(ROOT),
    }
}

pub(crate) fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

pub(crate) fn is_bind(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind")
        || options.any(|option| option == "bind" || option == "rbind")
}

/// What a mount's options take away, of itself and of all below it.
fn restrictions(mount: &Mount) -> (u32, u32) {
    let (mut own, mut recursive) = (0, 0);
    for option in mount.options().iter().flatten() {
        for (set, clear, flag) in RESTRICTIONS {
            match option.as_str() {
                option if option == *set => own |= flag,
                option if option == *clear => own &= !flag,
                option if option.strip_prefix('r') == Some(set) => recursive |= flag,
                option if option.strip_prefix('r') == Some(clear) => recursive &= !flag,
                _ => {}
            }
        }
    }
    (own, recursive)
}

/// Options with the container's SELinux label in the place of another.
fn labelled(options: &str, label: Option<&str>) -> String {
    let mut kept = Vec::new();
    let mut quoted = false;
    let mut start = 0;
    for (at, character) in options.char_indices().chain([(options.len(), ',')]) {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted || at == options.len() => {
                kept.push(&options[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    let before = kept.len();
    kept.retain(|option| {
        let name = option.split('=').next().unwrap_or_default();
        !name.ends_with("context") && !option.is_empty()
    });
    let mut all = kept.join(",");
    if let Some(label) = label.filter(|_| before != kept.len()) {
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&format!("context=\"{label}\""));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_containers_own() {
        let options = "rw,context=\"system_u:object_r:x:s0:c1,c2\",size=64k";
        assert_eq!(labelled(options, None), "rw,size=64k");
        assert_eq!(
            labelled(options, Some("u:r:t:s0:c3,c4")),
            "rw,size=64k,context=\"u:r:t:s0:c3,c4\""
        );
        assert_eq!(labelled("size=1", Some("l")), "size=1");
        assert_eq!(labelled("fscontext=x,a\"", Some("l")), "a\",context=\"l\"");
    }
}
