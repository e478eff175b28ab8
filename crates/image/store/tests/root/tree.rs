//! What a file tree is, in a form that two of them can be compared in.

use rustix::fs::{lgetxattr, llistxattr};
use std::collections::BTreeMap;
use std::fs::{Metadata, symlink_metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Files that are larger are described by their beginning: nobody reads the holes of a terabyte.
const READ: u64 = 1 << 20;

/// A line for everything in `root` and for itself, by name: type and mode, owner, time, names, content and extended
/// attributes. Those that steer overlayfs are left out: each driver tells deletions in its own way.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = match symlink_metadata(&path) {
            // A deletion in a directory that overlayfs need not merge is listed, and is not there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.unwrap(),
        };
        let name = path.strip_prefix(root).unwrap();
        let name = name.as_os_str().as_bytes().escape_ascii().to_string();
        found.insert(name, line(&path, &meta));
        if meta.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap();
            pending.extend(inside.map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn line(path: &Path, meta: &Metadata) -> String {
    let links = if meta.is_dir() { 0 } else { meta.nlink() };
    format!(
        "{:o} {}:{} {}.{:09} {links} {}{}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        content(path, meta),
        attributes(path)
    )
}

fn content(path: &Path, meta: &Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_symlink() {
        return format!("-> {}", std::fs::read_link(path).unwrap().display());
    }
    if kind.is_char_device() || kind.is_block_device() {
        return format!("{:x}", meta.rdev());
    }
    if !kind.is_file() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, READ), &mut bytes).unwrap();
    format!("{} {}", meta.len(), crate::support::sha256(&bytes).hex())
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 64 << 10];
    let length = llistxattr(path, &mut names[..]).unwrap();
    let mut found: Vec<String> = Vec::new();
    for name in names[..length].split(|&byte| byte == 0) {
        if name.is_empty() || name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let name = std::ffi::OsStr::from_bytes(name);
        let length = lgetxattr(path, name, &mut value[..]).unwrap();
        let value = value[..length].escape_ascii();
        found.push(format!(" {}={value}", name.display()));
    }
    found.sort();
    found.concat()
}
