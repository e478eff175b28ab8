//! Short names of layers: `link` files, the `l` directory, and the `lower` files made of them.
//!
//! A mount of many layers names them by 26 random characters each instead of by 64 hex digits and a path.

use crate::LayerId;
use crate::driver::DriverError;
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_to_string_limited};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The directory of the short names, inside the driver's home.
pub(super) const LINKS: &str = "l";

/// How many layers overlayfs can stack.
const MAX_DEPTH: usize = 500;

/// A `lower` file is at most this many short names long.
const MAX_LOWER_FILE: u64 = 64 << 10;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LENGTH: usize = 26;

/// A new random short name.
pub(super) fn generate() -> String {
    let mut random = [0; LENGTH];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .expect("the kernel's random source is there on every supported kernel");
    random
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

/// Writes the `link` file of the layer in `directory`.
pub(super) fn write(directory: &Path, link: &str) -> Result<(), DriverError> {
    write_plain(&directory.join("link"), link)
}

/// Writes the `lower` file of the layer in `directory`.
pub(super) fn write_lower(directory: &Path, lower: &str) -> Result<(), DriverError> {
    write_plain(&directory.join("lower"), lower)
}

/// Makes the `lower` file of the layer in `directory` durable, if it has one.
pub(super) fn sync_lower(directory: &Path) -> Result<(), DriverError> {
    let path = directory.join("lower");
    match std::fs::File::open(&path).and_then(|file| file.sync_data()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| DriverError::io("sync", path, error)),
    }
}

/// Removes short names of layers that are not there: one is made before its layer, and removed before it.
pub(super) fn remove_dangling(home: &Path) -> Result<(), DriverError> {
    let links = home.join(LINKS);
    let entries = match std::fs::read_dir(&links) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| DriverError::io("list", &links, error))?,
    };
    for entry in entries {
        let path = entry
            .map_err(|error| DriverError::io("list", &links, error))?
            .path();
        let is_dangling = path.is_symlink() && !path.exists();
        let is_ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(is_link);
        if is_dangling && is_ours {
            std::fs::remove_file(&path)
                .map_err(|error| DriverError::io("remove the link", path, error))?;
        }
    }
    Ok(())
}

/// Reads the short name of the layer in `directory`, giving it a new one if it has none.
pub(super) fn of_layer(home: &Path, id: &LayerId) -> Result<String, DriverError> {
    let path = home.join(id).join("link");
    match read_to_string_limited(&path, 255) {
        Ok(link) if is_link(&link) => Ok(link),
        Ok(_) => Err(DriverError::Damaged {
            id: id.to_string(),
            problem: format!("{} does not hold a short name", path.display()),
        }),
        Err(error) if error.is_not_found() => {
            let link = generate();
            point_to(home, &link, id)?;
            let options = AtomicOptions {
                mode: 0o644,
                sync: Sync::None,
            };
            atomic_write(&path, link.as_bytes(), options)
                .map_err(|error| DriverError::io("write", path, error.source))?;
            Ok(link)
        }
        Err(error) => Err(DriverError::io("read", path, std::io::Error::other(error))),
    }
}

/// What a layer on top of `parent` writes into its `lower` file: the parent's short name, then what is below the parent.
pub(super) fn lower_on(home: &Path, parent: &LayerId) -> Result<String, DriverError> {
    let mut lower = format!("{LINKS}/{}", of_layer(home, parent)?);
    let below = read_lower(&home.join(parent))?;
    let depth = below.len() + 1;
    if depth >= MAX_DEPTH {
        return Err(DriverError::TooDeep {
            id: parent.to_string(),
            depth,
        });
    }
    for name in below {
        lower.push(':');
        lower.push_str(&name);
    }
    Ok(lower)
}

/// The layers below the one in `directory`, nearest first, as `l/<short name>`; empty for a base layer.
pub(super) fn read_lower(directory: &Path) -> Result<Vec<String>, DriverError> {
    let path = directory.join("lower");
    match read_to_string_limited(&path, MAX_LOWER_FILE) {
        Ok(text) => text
            .trim_end_matches('\n')
            .split(':')
            .map(|name| match name.strip_prefix("l/") {
                Some(link) if is_link(link) => Ok(name.to_owned()),
                _ => Err(DriverError::Damaged {
                    id: directory
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    problem: format!("{} names `{name}`, which is no short name", path.display()),
                }),
            })
            .collect(),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(DriverError::io("read", path, std::io::Error::other(error))),
    }
}

/// Makes the short name lead to the layer's content, replacing an entry with another target.
pub(super) fn point_to(home: &Path, link: &str, id: &LayerId) -> Result<(), DriverError> {
    let path = home.join(LINKS).join(link);
    let target = Path::new("..").join(id).join("diff");
    for _ in 0..2 {
        match symlink(&target, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if std::fs::read_link(&path).is_ok_and(|found| found == target) {
                    return Ok(());
                }
                std::fs::remove_file(&path)
                    .map_err(|error| DriverError::io("remove", &path, error))?;
            }
            Err(error) => return Err(DriverError::io("make the link", path, error)),
            Ok(()) => return Ok(()),
        }
    }
    Err(DriverError::io(
        "make the link",
        path,
        ErrorKind::AlreadyExists,
    ))
}

/// Whether a text may stand behind `l/`: one path component of a sane alphabet.
pub(super) fn is_link(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn write_plain(path: &Path, text: &str) -> Result<(), DriverError> {
    std::fs::write(path, text).map_err(|error| DriverError::io("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_have_the_form_of_the_original() {
        let link = generate();
        assert_eq!(link.len(), 26);
        assert!(link.bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_ne!(link, generate());
    }

    #[test]
    fn lower_files_are_chained_and_checked() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(LINKS)).unwrap();
        let id = LayerId::generate();
        let layer = home.path().join(&id);
        std::fs::create_dir(&layer).unwrap();
        write_lower(&layer, "l/BBBB:l/CCCC").unwrap();
        let link = of_layer(home.path(), &id).unwrap();
        assert_eq!(
            lower_on(home.path(), &id).unwrap(),
            format!("l/{link}:l/BBBB:l/CCCC")
        );
        assert_eq!(
            std::fs::read_link(home.path().join("l").join(&link)).unwrap(),
            Path::new("..").join(&id).join("diff")
        );
        write_lower(&layer, "l/../../etc").unwrap();
        assert!(matches!(
            read_lower(&layer),
            Err(DriverError::Damaged { .. })
        ));
    }
}
