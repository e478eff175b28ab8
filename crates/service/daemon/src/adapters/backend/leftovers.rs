//! Taking away what monitors leave of a container.

use std::{io, path::Path};

use crioxide_engine::ports::PortResult;

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> PortResult<()> {
    remove_if_there(path).map(drop)
}

/// Removes a directory that may not be there, with what is in it.
pub(super) fn remove_tree(path: &Path) -> PortResult<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}

fn remove_if_there(path: &Path) -> PortResult<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot remove {}: {error}", path.display()).into()),
    }
}

/// Removes a container's exit file. Where there is none, its monitor or conmon may have been killed while it wrote it:
/// then a file with the id and more in its name is there instead.
pub(super) fn remove_exit_file(exits_dir: &Path, id: &str) -> PortResult<()> {
    if remove_if_there(&exits_dir.join(id))? {
        return Ok(());
    }
    let unreadable = |error| format!("cannot read {}: {error}", exits_dir.display());
    let entries = match std::fs::read_dir(exits_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().contains(id) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_exit_files_go_too() {
        let dir = tempfile::tempdir().unwrap();
        let names = |prefix: &str| {
            let of = move |id: &str| [format!(".tmp-{id}-0123abcd"), format!("{id}.XK3F0P")];
            [of(&prefix.repeat(64)), of("other")].concat()
        };
        let id = "a".repeat(64);
        for name in names("a") {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::write(dir.path().join("other"), "0").unwrap();
        remove_exit_file(dir.path(), &id).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".tmp-other-0123abcd", "other", "other.XK3F0P"]);
        remove_exit_file(&dir.path().join("missing"), &id).unwrap();
    }

    #[test]
    fn a_written_exit_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("id"), "0").unwrap();
        remove_exit_file(dir.path(), "id").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
