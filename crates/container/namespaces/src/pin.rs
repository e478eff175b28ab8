//! Pins: bind mounts of namespace files.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{UnmountFlags, mount_bind, unmount},
};

use crate::NamespaceError;

/// Kinds of namespaces that can be pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Users.
    User,
    /// Process ids.
    Pid,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Net, Self::Ipc, Self::Uts, Self::User, Self::Pid];

    /// Its file in /proc/pid/ns.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Pid => "pid",
        }
    }
}

/// Where a namespace called `name` is pinned.
#[must_use]
pub fn pin_path(dir: &Path, kind: Kind, name: &str) -> PathBuf {
    dir.join(format!("{}ns", kind.file())).join(name)
}

/// Pins the namespace behind `source`, a file as in /proc/pid/ns, and returns where.
///
/// # Errors
/// When the pin cannot be made; nothing of it is left then.
pub fn pin_existing(
    dir: &Path,
    name: &str,
    kind: Kind,
    source: &Path,
) -> Result<PathBuf, NamespaceError> {
    let path = prepare(dir, kind, name)?;
    mount_on(source, &path)?;
    Ok(path)
}

/// Makes the file to mount on.
pub(crate) fn prepare(dir: &Path, kind: Kind, name: &str) -> Result<PathBuf, NamespaceError> {
    check_name(name)?;
    let path = pin_path(dir, kind, name);
    let parent = dir.join(format!("{}ns", kind.file()));
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| NamespaceError::Pin {
            action,
            path,
            source,
        }
    };
    let create = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
    };
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&parent)
                .map_err(failed("make directory", &parent))?;
            create().map_err(failed("make", &path))?;
        }
        result => drop(result.map_err(failed("make", &path))?),
    }
    Ok(path)
}

/// Mounts a namespace file on a prepared pin; the pin's file goes again if that fails.
pub(crate) fn mount_on(source: &Path, path: &Path) -> Result<(), NamespaceError> {
    mount_bind(source, path).map_err(|error| {
        // The error that matters is the mount's.
        let _ = std::fs::remove_file(path);
        NamespaceError::Pin {
            action: "pin a namespace at",
            path: path.to_owned(),
            source: error.into(),
        }
    })
}

/// Removes every pin called `name`; missing ones are no error.
///
/// # Errors
/// The first pin that stays; the others are gone all the same.
pub fn remove_pinned(dir: &Path, name: &str) -> Result<(), NamespaceError> {
    check_name(name)?;
    let mut result = Ok(());
    for kind in Kind::ALL {
        let removed = remove_pin(&pin_path(dir, kind, name));
        if result.is_ok() {
            result = removed;
        }
    }
    result
}

/// Removes one pin; a missing one is no error. The namespace itself goes with its last user.
///
/// # Errors
/// When the mount or the file stays.
pub fn remove_pin(path: &Path) -> Result<(), NamespaceError> {
    let failed = |action, source: io::Error| NamespaceError::Pin {
        action,
        path: path.to_owned(),
        source,
    };
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount (any more), or not there at all.
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(failed("unmount", error.into())),
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", error)),
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), NamespaceError> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if plain {
        Ok(())
    } else {
        Err(NamespaceError::Name {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory() {
        for bad in ["", ".", "..", "a/b", "../x", "a\0"] {
            assert!(
                remove_pinned(Path::new("/nonexistent"), bad).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn removing_what_is_not_there_is_done() {
        let dir = tempfile::tempdir().unwrap();
        remove_pinned(dir.path(), "nobody").unwrap();
    }
}
