//! Mounts asked for by the pod.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crioxide_cri_api::v1::{self, MountPropagation};
use crioxide_node_records::annotations::values::{Volume, VolumeImage};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount};
use thiserror::Error;

use super::mount;

/// A mount that cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum VolumeError {
    /// No destination.
    #[error("mount.ContainerPath is empty")]
    NoContainerPath,
    /// No source.
    #[error("mount.HostPath is empty")]
    NoHostPath,
    /// A destination with `..` or NUL.
    #[error("mount.ContainerPath {path:?} is not a plain path")]
    ContainerPath {
        /// The destination.
        path: String,
    },
    /// The node's mount does not pass events on as requested.
    #[error("path {path:?} is mounted on {mount_point:?} but it is not a {wanted} mount")]
    Propagation {
        /// The source.
        path: String,
        /// The mount it lies on.
        mount_point: String,
        /// `shared`, or `shared or slave`.
        wanted: &'static str,
    },
    /// The kernel or the runtime cannot do it.
    #[error("recursive read-only mount support is not available for hostPath {path:?}")]
    RecursiveUnsupported {
        /// The source.
        path: String,
    },
    /// Both recursive read-only and writable.
    #[error("recursive read-only mount conflicts with RW mount")]
    RecursiveWritable,
    /// Both recursive read-only and propagating.
    #[error("recursive read-only mount requires private propagation but got: {propagation}")]
    RecursivePropagation {
        /// Name of the propagation.
        propagation: &'static str,
    },
}

/// How a mount of the node passes mount events on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostPropagation {
    /// Not at all.
    #[default]
    Private,
    /// It receives them.
    Slave,
    /// Both ways.
    Shared,
}

/// What the node knows about the source of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSource {
    /// What to mount, with symbolic links resolved; for images, where they are mounted on the node.
    pub path: PathBuf,
    /// The mount `path` lies on.
    pub mount_point: PathBuf,
    /// How that mount passes events on.
    pub propagation: HostPropagation,
    /// Id of the image or digest of the artifact, for image volumes.
    pub image: Option<String>,
    /// The files of an artifact by their relative names, which are mounted one by one, read-only.
    pub files: Option<Vec<(String, PathBuf)>>,
}

/// Whether submounts can be made read-only with their parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecursiveReadOnly {
    /// Kernel and runtime can do it.
    Supported,
    /// One of them cannot.
    Unsupported,
}

/// The pod's mounts, ready for the spec.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreparedVolumes {
    /// Parents before children.
    pub mounts: Vec<Mount>,
    /// Propagation the root file system needs: `rslave`, `rshared` or none.
    pub rootfs_propagation: Option<&'static str>,
    /// What the record keeps about them, in the request's order.
    pub records: Vec<Volume>,
}

/// Checks and translates the mounts of a request; `sources` is keyed by container path.
///
/// # Errors
/// Fails for the first mount that is incomplete or cannot propagate as requested.
pub fn prepare(
    requested: &[v1::Mount],
    sources: &BTreeMap<String, VolumeSource>,
    recursive: RecursiveReadOnly,
) -> Result<PreparedVolumes, VolumeError> {
    let mut prepared = PreparedVolumes::default();
    for request in requested {
        let source = checked_source(request, sources)?;
        if let Some(files) = &source.files {
            for (name, path) in files {
                prepared.add_file(request, &source, name, path);
            }
            continue;
        }
        let mut options = vec!["rbind", propagation_option(request, &source)?];
        prepared.rootfs_propagation = match (request.propagation(), prepared.rootfs_propagation) {
            (MountPropagation::PropagationBidirectional, _) => Some("rshared"),
            (MountPropagation::PropagationHostToContainer, None) => Some("rslave"),
            (_, current) => current,
        };
        options.push(match source.image {
            Some(_) => "ro",
            None => write_option(request, recursive)?,
        });
        options.push("bind");
        let mut made = mount(
            &request.container_path,
            "bind",
            &source.path.to_string_lossy(),
            &options,
        );
        // An image is mounted with its ids mapped already.
        if source.image.is_none() {
            map_ids(&mut made, request);
        }
        prepared.mounts.push(made);
        prepared.records.push(record(request, &source));
    }
    prepared
        .mounts
        .sort_by_key(|mount| mount.destination().components().count());
    Ok(prepared)
}

impl PreparedVolumes {
    /// One file of an artifact.
    fn add_file(&mut self, request: &v1::Mount, source: &VolumeSource, name: &str, path: &Path) {
        let place = format!("{}/{name}", request.container_path.trim_end_matches('/'));
        let mut made = mount(&place, "bind", &path.to_string_lossy(), &["bind", "ro"]);
        map_ids(&mut made, request);
        self.mounts.push(made);
        let record = record(request, source);
        self.records.push(Volume {
            host_path: path.to_string_lossy().into_owned(),
            ..record
        });
    }
}

fn map_ids(mount: &mut Mount, request: &v1::Mount) {
    if !request.uid_mappings.is_empty() || !request.gid_mappings.is_empty() {
        mount.set_uid_mappings(Some(request.uid_mappings.iter().map(id_mapping).collect()));
        mount.set_gid_mappings(Some(request.gid_mappings.iter().map(id_mapping).collect()));
    }
}

fn checked_source(
    request: &v1::Mount,
    sources: &BTreeMap<String, VolumeSource>,
) -> Result<VolumeSource, VolumeError> {
    if request.container_path.is_empty() {
        return Err(VolumeError::NoContainerPath);
    }
    if request.container_path.contains('\0')
        || request.container_path.split('/').any(|part| part == "..")
    {
        return Err(VolumeError::ContainerPath {
            path: request.container_path.clone(),
        });
    }
    match sources.get(&request.container_path) {
        Some(source) => Ok(source.clone()),
        None if request.host_path.is_empty() => Err(VolumeError::NoHostPath),
        None => Ok(VolumeSource {
            path: request.host_path.clone().into(),
            ..VolumeSource::default()
        }),
    }
}

fn propagation_option(
    request: &v1::Mount,
    source: &VolumeSource,
) -> Result<&'static str, VolumeError> {
    let refused = |wanted| VolumeError::Propagation {
        path: source.path.display().to_string(),
        mount_point: source.mount_point.display().to_string(),
        wanted,
    };
    match (request.propagation(), source.propagation) {
        (MountPropagation::PropagationPrivate, _) => Ok("rprivate"),
        (MountPropagation::PropagationBidirectional, HostPropagation::Shared) => Ok("rshared"),
        (MountPropagation::PropagationBidirectional, _) => Err(refused("shared")),
        (MountPropagation::PropagationHostToContainer, HostPropagation::Private) => {
            Err(refused("shared or slave"))
        }
        (MountPropagation::PropagationHostToContainer, _) => Ok("rslave"),
    }
}

fn write_option(
    request: &v1::Mount,
    recursive: RecursiveReadOnly,
) -> Result<&'static str, VolumeError> {
    match (request.recursive_read_only, request.readonly) {
        (false, false) => Ok("rw"),
        (false, true) => Ok("ro"),
        (true, false) => Err(VolumeError::RecursiveWritable),
        (true, true) if recursive == RecursiveReadOnly::Unsupported => {
            Err(VolumeError::RecursiveUnsupported {
                path: request.host_path.clone(),
            })
        }
        (true, true) if request.propagation() != MountPropagation::PropagationPrivate => {
            Err(VolumeError::RecursivePropagation {
                propagation: request.propagation().as_str_name(),
            })
        }
        (true, true) => Ok("rro"),
    }
}

fn record(request: &v1::Mount, source: &VolumeSource) -> Volume {
    Volume {
        container_path: request.container_path.clone(),
        host_path: source.path.to_string_lossy().into_owned(),
        readonly: request.readonly || source.image.is_some(),
        recursive_read_only: request.recursive_read_only,
        propagation: request.propagation,
        selinux_relabel: request.selinux_relabel,
        image: source.image.as_ref().map(|image| VolumeImage {
            image: image.clone(),
            user_specified_image: request
                .image
                .as_ref()
                .map(|spec| spec.user_specified_image.clone())
                .unwrap_or_default(),
        }),
    }
}

pub(crate) fn id_mapping(requested: &v1::IdMapping) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default()
        .host_id(requested.host_id)
        .container_id(requested.container_id)
        .size(requested.length)
        .build()
        .expect("every field has a value")
}

#[cfg(test)]
mod tests;
