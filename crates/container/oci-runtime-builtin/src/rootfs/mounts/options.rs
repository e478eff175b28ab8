//! The `options` of a mount, sorted into what the kernel wants to hear separately.

use crioxide_sys::mount_attributes::{Propagation, Reach};
use rustix::mount::MountAttrFlags;

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) set: MountAttrFlags,
    pub(crate) clear: MountAttrFlags,
}

impl Attributes {
    const NONE: Self = Self {
        set: MountAttrFlags::empty(),
        clear: MountAttrFlags::empty(),
    };

    pub(crate) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    fn apply(&mut self, change: AttributeOption) {
        match change {
            AttributeOption::Set(flag) => {
                self.set |= flag;
                self.clear &= !flag;
            }
            AttributeOption::Clear(flag) => {
                self.set &= !flag;
                self.clear |= flag;
            }
            AttributeOption::AccessTime(flag) => {
                // The access time modes share bits; the kernel wants all of them cleared with every change.
                self.set = (self.set & !MountAttrFlags::MOUNT_ATTR__ATIME) | flag;
                self.clear |= MountAttrFlags::MOUNT_ATTR__ATIME;
            }
        }
    }
}

/// Parsed options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// Whether and how far the source is bound rather than a file system made.
    pub(crate) bind: Option<Reach>,
    /// For the mount itself.
    pub(crate) attributes: Attributes,
    /// For it and all below it (`rro` and the like).
    pub(crate) recursive: Attributes,
    /// Propagation types, in the order given.
    pub(crate) propagation: Vec<(Propagation, Reach)>,
    /// Ids are mapped by the mount's own mappings.
    pub(crate) id_map: Option<Reach>,
    /// A tmpfs starts with what the image has there.
    pub(crate) copy_up: bool,
    /// What is left for the file system: key and value.
    pub(crate) data: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, Copy)]
enum AttributeOption {
    Set(MountAttrFlags),
    Clear(MountAttrFlags),
    AccessTime(MountAttrFlags),
}

impl MountOptions {
    /// Parses the list of a mount of this type.
    pub(crate) fn parse(kind: &str, options: &[String]) -> Self {
        let mut parsed = Self {
            bind: (kind == "bind").then_some(Reach::Single),
            attributes: Attributes::NONE,
            recursive: Attributes::NONE,
            propagation: Vec::new(),
            id_map: None,
            copy_up: false,
            data: Vec::new(),
        };
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        match option {
            "bind" => self.bind = self.bind.or(Some(Reach::Single)),
            "rbind" => self.bind = Some(Reach::Recursive),
            "idmap" => self.id_map = Some(Reach::Single),
            "ridmap" => self.id_map = Some(Reach::Recursive),
            "tmpcopyup" => self.copy_up = true,
            // Without a meaning for a new mount, or only for programs that read fstab.
            "defaults" | "remount" | "async" | "nofail" | "auto" | "noauto" | "user" | "nouser"
            | "_netdev" | "norelatime" | "copy" | "nocopy" | "private_label" => {}
            _ => {
                if let Some(propagation) = propagation(option) {
                    self.propagation.push(propagation);
                } else if let Some(change) = attribute(option) {
                    self.attributes.apply(change);
                } else if let Some(change) = option.strip_prefix('r').and_then(attribute) {
                    self.recursive.apply(change);
                } else {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (option, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
    }
}

/// Every option name the runtime understands, for the `features` document.
pub(crate) const KNOWN: [&str; 44] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "suid",
    "tmpcopyup",
];

fn propagation(option: &str) -> Option<(Propagation, Reach)> {
    Some(match option {
        "shared" => (Propagation::Shared, Reach::Single),
        "rshared" => (Propagation::Shared, Reach::Recursive),
        "slave" => (Propagation::Slave, Reach::Single),
        "rslave" => (Propagation::Slave, Reach::Recursive),
        "private" => (Propagation::Private, Reach::Single),
        "rprivate" => (Propagation::Private, Reach::Recursive),
        "unbindable" => (Propagation::Unbindable, Reach::Single),
        "runbindable" => (Propagation::Unbindable, Reach::Recursive),
        _ => return None,
    })
}

fn attribute(option: &str) -> Option<AttributeOption> {
    use AttributeOption::{AccessTime, Clear, Set};
    type Flag = MountAttrFlags;
    Some(match option {
        "ro" => Set(Flag::MOUNT_ATTR_RDONLY),
        "rw" => Clear(Flag::MOUNT_ATTR_RDONLY),
        "nosuid" => Set(Flag::MOUNT_ATTR_NOSUID),
        "suid" => Clear(Flag::MOUNT_ATTR_NOSUID),
        "nodev" => Set(Flag::MOUNT_ATTR_NODEV),
        "dev" => Clear(Flag::MOUNT_ATTR_NODEV),
        "noexec" => Set(Flag::MOUNT_ATTR_NOEXEC),
        "exec" => Clear(Flag::MOUNT_ATTR_NOEXEC),
        "nodiratime" => Set(Flag::MOUNT_ATTR_NODIRATIME),
        "diratime" => Clear(Flag::MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => Set(Flag::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Clear(Flag::MOUNT_ATTR_NOSYMFOLLOW),
        "noatime" => AccessTime(Flag::MOUNT_ATTR_NOATIME),
        "strictatime" => AccessTime(Flag::MOUNT_ATTR_STRICTATIME),
        "relatime" | "atime" | "nostrictatime" => AccessTime(Flag::empty()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &str) -> MountOptions {
        let options: Vec<String> = options.split(',').map(str::to_owned).collect();
        MountOptions::parse(kind, &options)
    }

    #[test]
    fn tmpfs_options_are_sorted() {
        let parsed = parse("tmpfs", "nosuid,strictatime,mode=755,size=65536k,ro,rw");
        assert_eq!(parsed.bind, None);
        assert_eq!(
            parsed.attributes.set,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
        assert!(
            parsed
                .attributes
                .clear
                .contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
        );
        let keys: Vec<_> = parsed
            .data
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        assert_eq!(keys, [("mode", Some("755")), ("size", Some("65536k"))]);
    }

    #[test]
    fn recursive_forms_are_not_mixed_up_with_plain_ones() {
        let parsed = parse("bind", "rbind,rprivate,rro,relatime");
        assert_eq!(parsed.bind, Some(Reach::Recursive));
        assert_eq!(
            parsed.propagation,
            [(Propagation::Private, Reach::Recursive)]
        );
        assert_eq!(parsed.recursive.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert_eq!(parsed.attributes.clear, MountAttrFlags::MOUNT_ATTR__ATIME);
        assert!(parsed.data.is_empty());
    }

    #[test]
    fn known_options_are_known() {
        for option in KNOWN {
            assert!(parse("tmpfs", option).data.is_empty(), "{option}");
        }
    }
}
