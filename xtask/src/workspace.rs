//! Where things are, and the packages of this workspace with their dependency edges.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{cargo, output};

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one directory below the root")
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = metadata(&["--no-deps"])?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("`cargo metadata` names no target directory")?;
    Ok(PathBuf::from(directory))
}

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Its directory, relative to the root, such as `crates/base/sys`.
    pub(crate) directory: PathBuf,
    /// Direct dependencies of the library and binaries, without those of its tests.
    pub(crate) dependencies: BTreeSet<String>,
}

/// The workspace as cargo resolved it.
#[derive(Debug)]
pub(crate) struct PackageGraph {
    pub(crate) members: Vec<Member>,
    /// Package id to the ids of its dependencies; those of tests and build scripts left out.
    edges: BTreeMap<String, Vec<String>>,
    names: BTreeMap<String, String>,
}

impl PackageGraph {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        Self::from_metadata(&metadata(&[])?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let mut names = BTreeMap::new();
        for package in array(&metadata["packages"]) {
            names.insert(text(&package["id"])?, text(&package["name"])?);
        }
        let mut edges = BTreeMap::new();
        for node in array(&metadata["resolve"]["nodes"]) {
            let mut below = Vec::new();
            for dependency in array(&node["deps"]) {
                let linked = array(&dependency["dep_kinds"])
                    .iter()
                    .any(|kind| kind["kind"].is_null());
                if linked {
                    below.push(text(&dependency["pkg"])?);
                }
            }
            edges.insert(text(&node["id"])?, below);
        }
        let members_of: BTreeSet<&str> = array(&metadata["workspace_members"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let mut members = Vec::new();
        for package in array(&metadata["packages"]) {
            let id = text(&package["id"])?;
            if !members_of.contains(id.as_str()) {
                continue;
            }
            let manifest = PathBuf::from(text(&package["manifest_path"])?);
            let directory = manifest.parent().context("a manifest has a directory")?;
            let dependencies = edges.get(&id).into_iter().flatten();
            members.push(Member {
                name: text(&package["name"])?,
                directory: directory
                    .strip_prefix(root())
                    .unwrap_or(directory)
                    .to_path_buf(),
                dependencies: dependencies
                    .filter_map(|id| names.get(id).cloned())
                    .collect(),
            });
        }
        members.sort_by(|a, b| a.directory.cmp(&b.directory));
        Ok(Self {
            members,
            edges,
            names,
        })
    }

    /// The names of all packages that are linked into `package`, itself left out.
    pub(crate) fn closure(&self, package: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = self
            .names
            .iter()
            .filter(|(_, name)| name.as_str() == package)
            .map(|(id, _)| id)
            .collect();
        while let Some(id) = open.pop() {
            for below in self.edges.get(id).into_iter().flatten() {
                if reached.insert(below) {
                    open.push(below);
                }
            }
        }
        reached
            .into_iter()
            .filter_map(|id| self.names.get(id).cloned())
            .collect()
    }
}

fn metadata(options: &[&str]) -> Result<Value> {
    let text = output(
        cargo()
            .args(["metadata", "--format-version", "1"])
            .args(options),
    )?;
    serde_json::from_str(&text).context("read the output of `cargo metadata`")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Result<String> {
    Ok(value
        .as_str()
        .context("`cargo metadata` lacks a text where one belongs")?
        .to_owned())
}
