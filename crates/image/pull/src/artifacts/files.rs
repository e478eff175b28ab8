//! The files of an artifact, as a container sees them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crioxide_names::Digest;

use super::layout::Layout;
use super::{ArtifactInfo, ArtifactStoreError, Artifacts, Content, manifest};

/// Annotations with the name of a file, the first that is there counts: OCI's, and the one of model packages.
const NAMES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];

/// The longest path that the kernel takes (bytes).
const MAX_PATH: usize = 4095;

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    /// Its name: a relative path without `.` and `..`.
    pub name: String,
    /// Where its content is on this node.
    pub path: PathBuf,
}

impl Artifacts {
    /// The files of an artifact by their names, sorted. A name that comes twice is the later file; a layer without a name
    /// is none, as CRI-O has it.
    pub fn files(&self, info: &ArtifactInfo) -> Result<Vec<ArtifactFile>, ArtifactStoreError> {
        let shared = &self.shared;
        let mut layouts = shared.additional.iter();
        let layout = match &info.additional_store {
            Some(store) => layouts
                .find(|layout| layout.directory() == store)
                .unwrap_or(&shared.layout),
            None => &shared.layout,
        };
        let mut files = BTreeMap::new();
        for layer in manifest(layout, &info.digest)?.layers {
            let given = NAMES.iter().find_map(|name| layer.annotations.get(*name));
            let Some(given) = given.filter(|name| !name.is_empty()) else {
                tracing::warn!(
                    artifact = info.id,
                    layer = layer.digest,
                    "layer has no file name and cannot be mounted"
                );
                continue;
            };
            let name = clean(given).ok_or_else(|| {
                layout.flaw(format!("artifact {}: {given:?} is no file name", info.id))
            })?;
            files.insert(name, content(layout, &layer)?);
        }
        if let Some(name) = file_below_a_file(&files) {
            return Err(layout.flaw(format!(
                "artifact {}: file {name:?} lies below another file",
                info.id
            )));
        }
        let files = files.into_iter();
        Ok(files
            .map(|(name, path)| ArtifactFile { name, path })
            .collect())
    }
}

/// A name that leads nowhere but below the place where the artifact is mounted. As in a root of its own, `..` at the top
/// stays there. `None` if nothing is left.
fn clean(name: &str) -> Option<String> {
    if name.contains('\0') || name.len() > MAX_PATH {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/")).filter(|name| !name.is_empty())
}

/// Where a layer is; it must be there, and whole.
fn content(layout: &Layout, layer: &Content) -> Result<PathBuf, ArtifactStoreError> {
    let digest =
        Digest::parse(&layer.digest).map_err(|e| layout.flaw(format!("digest of a layer: {e}")))?;
    let path = layout.blob(&digest);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() && found.len() == layer.size => Ok(path),
        Ok(_) => Err(layout.flaw(format!(
            "blob `{digest}` is not a file of {} bytes",
            layer.size
        ))),
        Err(error) => Err(super::layout::io("look at", &path, error)),
    }
}

/// A name that has another as its directory.
fn file_below_a_file(files: &BTreeMap<String, PathBuf>) -> Option<&str> {
    let mut names = files.keys();
    let below = names.find(|name| {
        name.match_indices('/')
            .any(|(at, _)| files.contains_key(&name[..at]))
    });
    below.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_mount() {
        for (given, cleaned) in [
            ("a", Some("a")),
            ("a/b.txt", Some("a/b.txt")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("../../etc/passwd", Some("etc/passwd")),
            ("a/../../../b", Some("b")),
            ("..", None),
            ("/", None),
            (".", None),
            ("a/..", None),
            ("a\0b", None),
        ] {
            assert_eq!(clean(given).as_deref(), cleaned, "{given:?}");
        }
        assert_eq!(clean(&"a".repeat(MAX_PATH + 1)), None);
    }

    #[test]
    fn a_file_cannot_be_a_directory_too() {
        let files = |names: &[&str]| -> BTreeMap<String, PathBuf> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), PathBuf::new()))
                .collect()
        };
        assert_eq!(file_below_a_file(&files(&["a", "a.b", "ab/c", "b"])), None);
        assert_eq!(file_below_a_file(&files(&["a/b/c", "a/b"])), Some("a/b/c"));
    }
}
