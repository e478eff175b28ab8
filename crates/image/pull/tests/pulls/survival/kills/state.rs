//! What is in a store, once it was opened and tidied up as at the start of the daemon.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use crioxide_store::{CheckDepth, LayerId, Store};

use super::id;
use crate::fixture::open;
use crate::image::{Image, digest};

/// All files of a store but the content of layers, which was compared with the images it is of.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) files: Vec<String>,
}

impl State {
    /// Opens, tidies up and examines. Images that are there are so byte for byte; those of `required` must be.
    pub(crate) fn of(place: &Path, driver: &str, required: &[&Image], others: &[&Image]) -> Self {
        let store = open(place, driver);
        store.garbage_collect().unwrap();
        assert_eq!(store.check(CheckDepth::Digests).unwrap(), []);
        let mut known = BTreeSet::new();
        for image in required {
            compare(&store, image, &mut known);
        }
        for image in others {
            if store.image(id(image).as_str()).unwrap().is_some() {
                compare(&store, image, &mut known);
            }
        }
        for container in store.containers().unwrap() {
            known.insert(container.id.clone());
            assert!(
                store
                    .layer(&LayerId::parse(&container.layer).unwrap())
                    .unwrap()
                    .is_some()
            );
        }
        // What was deleted is gone when the store is.
        drop(store);
        let mut files = Vec::new();
        for root in ["root", "run"] {
            list(&place.join(root), root, &known, &mut files);
        }
        files.sort();
        Self { files }
    }

    pub(super) fn is_closer_to(&self, other: &Self) -> bool {
        self.files.len() * 2 > other.files.len()
    }

    /// What is in one of the two only.
    pub(super) fn difference(&self, other: &Self) -> String {
        let only = |one: &Self, other: &Self, sign: char| -> String {
            let mut left = other.files.clone();
            let mut lines = String::new();
            for file in &one.files {
                match left.iter().position(|known| known == file) {
                    Some(at) => drop(left.swap_remove(at)),
                    None => lines.push_str(&format!("{sign} {file}\n")),
                }
            }
            lines
        };
        only(self, other, '+') + &only(other, self, '-')
    }
}

/// The image's config, manifest and layers, as the registry has them.
pub(super) fn compare(store: &Store, image: &Image, known: &mut BTreeSet<String>) {
    let id = id(image);
    known.insert(id.as_str().to_owned());
    let record = store.image(id.as_str()).unwrap().unwrap();
    let config = store
        .image_big_data(id.as_str(), &digest(&image.config))
        .unwrap();
    assert!(config == image.config);
    assert!(store.image_big_data(id.as_str(), "manifest").unwrap() == image.manifest);
    let mut next = record.layer.clone();
    for tar in image.tars.iter().rev() {
        known.insert(next.clone());
        let layer = LayerId::parse(&next).unwrap();
        let mut bytes = Vec::new();
        store
            .layer_tar(&layer)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert!(bytes == *tar, "layer {layer}");
        next.clone_from(&store.layer(&layer).unwrap().unwrap().parent);
    }
    assert_eq!(next, "");
}

/// Lists a directory with random names made the same. Locks come and stay; content of layers was looked at.
fn list(directory: &Path, name: &str, known: &BTreeSet<String>, into: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let own = entry.file_name().into_string().unwrap();
        if own.ends_with(".lock") || own == "locks" {
            continue;
        }
        let path = format!("{name}/{}", alike(&own, known));
        into.push(path.clone());
        let is_content = own == "diff" || name.ends_with("vfs/dir");
        if entry.file_type().unwrap().is_dir() && !is_content {
            list(&entry.path(), &path, known, into);
        }
    }
}

fn alike(name: &str, known: &BTreeSet<String>) -> String {
    let is_link = name.len() == 26
        && name
            .bytes()
            .all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
    let id = name.split('.').next().unwrap_or_default();
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_link {
        "a link".to_owned()
    } else if is_id && !known.contains(id) {
        name.replace(id, "an id")
    } else {
        name.to_owned()
    }
}
