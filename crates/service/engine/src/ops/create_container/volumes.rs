//! Sources of the volumes of a container: what the request mounts and what the image declares.

use std::collections::BTreeMap;

use crioxide_cri_api::v1;
use crioxide_runtime_spec::mounts::volumes::VolumeSource;
use oci_spec::runtime::{Mount, MountBuilder};

use super::plan::Plan;
use crate::{
    Engine, EngineError,
    error::Context as _,
    ports::{ImageMount, Labels, MissingSource, RecordDirs, ResolvedArtifact, ResolvedImage},
    settings::ImageVolumes,
};

/// What kubelets look for at the start of the message when an image cannot be mounted.
const IMAGE_MOUNT_FAILED: &str = "ImageVolumeMountFailed";

/// What a mount of a request that names an image is made of.
#[derive(Debug)]
pub(super) enum MountedImage {
    /// A container image.
    Image(Box<ResolvedImage>),
    /// An OCI artifact.
    Artifact(ResolvedArtifact),
}

impl MountedImage {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Image(image) => image.id.as_str(),
            Self::Artifact(artifact) => &artifact.id,
        }
    }
}

impl Engine {
    /// The images and artifacts that a request mounts, by where. A name that is both means the artifact.
    pub(super) async fn volume_images(
        &self,
        mounts: &[v1::Mount],
        namespace: &str,
    ) -> Result<BTreeMap<String, MountedImage>, EngineError> {
        let mut mounted = BTreeMap::new();
        let images = &self.inner.ports.images;
        for mount in mounts {
            let Some(name) = mounted_image(mount) else {
                continue;
            };
            if self.inner.settings.artifact_mounts {
                let found = images.resolve_artifact(name).await;
                let found = found.doing(|| format!("{IMAGE_MOUNT_FAILED}: artifact {name}"))?;
                if let Some(found) = found {
                    let found = part_of(found, name, &mount.image_sub_path)?;
                    mounted.insert(mount.container_path.clone(), MountedImage::Artifact(found));
                    continue;
                }
            }
            let found = images.resolve(name).await;
            let found = found.doing(|| format!("{IMAGE_MOUNT_FAILED}: failed to find {name}"))?;
            let found = found.ok_or_else(|| {
                EngineError::refused(format!(
                    "{IMAGE_MOUNT_FAILED}: image {name} is not there: pull it before mounting it"
                ))
            })?;
            let image = mount.image.as_ref();
            let asked = image.map_or("", |image| image.user_specified_image.as_str());
            let allowed = images.verify(&found, asked, namespace).await;
            allowed.doing(|| format!("{IMAGE_MOUNT_FAILED}: image {name}"))?;
            mounted.insert(
                mount.container_path.clone(),
                MountedImage::Image(Box::new(found)),
            );
        }
        Ok(mounted)
    }

    pub(super) async fn volume_sources(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        labels: &Labels,
    ) -> Result<BTreeMap<String, VolumeSource>, EngineError> {
        let mut sources = BTreeMap::new();
        for (number, mount) in plan.config.mounts.iter().enumerate() {
            let source = match plan.volume_images.get(&mount.container_path) {
                Some(MountedImage::Image(image)) => {
                    let wanted = ImageMount {
                        image: image.id.clone(),
                        sub_path: mount.image_sub_path.clone(),
                        user: plan.pod.user(),
                        label: labels.mount.clone(),
                    };
                    self.image_source(plan, dirs, number, mount, wanted).await?
                }
                Some(MountedImage::Artifact(artifact)) => {
                    self.artifact_source(plan, mount, artifact, labels).await?
                }
                None if mount.host_path.is_empty() => continue, // the spec's own check names it
                None => self.host_source(plan, mount, labels).await?,
            };
            sources.insert(mount.container_path.clone(), source);
        }
        Ok(sources)
    }

    async fn image_source(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        number: usize,
        mount: &v1::Mount,
        wanted: ImageMount,
    ) -> Result<VolumeSource, EngineError> {
        let records = &self.inner.ports.records;
        let path = records.mount_image(dirs, number, &wanted).await;
        let path = path.map_err(|error| {
            let reason = crate::chain(error.as_ref());
            EngineError::refused(format!(
                "{IMAGE_MOUNT_FAILED}: {reason} (image {}, container {})",
                mounted_image(mount).unwrap_or_default(),
                plan.name
            ))
        })?;
        Ok(VolumeSource {
            path,
            image: Some(wanted.image.to_string()),
            ..VolumeSource::default()
        })
    }

    async fn artifact_source(
        &self,
        plan: &Plan,
        mount: &v1::Mount,
        artifact: &ResolvedArtifact,
        labels: &Labels,
    ) -> Result<VolumeSource, EngineError> {
        self.check_id_maps(plan, mount)?;
        if mount.selinux_relabel && !labels.mount.is_empty() {
            for (_, path) in &artifact.files {
                let relabelled = self.inner.ports.host.relabel(path, &labels.mount).await;
                relabelled.doing(|| {
                    let name = mounted_image(mount).unwrap_or_default();
                    format!(
                        "{IMAGE_MOUNT_FAILED}: artifact {name}, container {}",
                        plan.name
                    )
                })?;
            }
        }
        Ok(VolumeSource {
            image: Some(artifact.id.clone()),
            files: Some(artifact.files.clone()),
            ..VolumeSource::default()
        })
    }

    fn check_id_maps(&self, plan: &Plan, mount: &v1::Mount) -> Result<(), EngineError> {
        let handlers = &self.inner.settings.handlers;
        let maps_ids = handlers
            .get(&plan.pod.info.runtime_handler)
            .is_some_and(|handler| handler.id_mapped_mounts);
        let plain = mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty();
        if !maps_ids && !plain {
            return Err(EngineError::refused(
                "idmap mounts specified but OCI runtime does not support them. Perhaps the OCI runtime is too old",
            ));
        }
        Ok(())
    }

    async fn host_source(
        &self,
        plan: &Plan,
        mount: &v1::Mount,
        labels: &Labels,
    ) -> Result<VolumeSource, EngineError> {
        self.check_id_maps(plan, mount)?;
        let rejected = &self.inner.settings.rejected_mount_sources;
        let missing = if rejected
            .iter()
            .any(|path| path.as_os_str() == mount.host_path.as_str())
        {
            MissingSource::Reject
        } else {
            MissingSource::Create
        };
        let host = &self.inner.ports.host;
        let source = host.mount_source(&mount.host_path, missing).await;
        let failed = || {
            format!(
                "failed to mount {} in container {}",
                mount.host_path, plan.name
            )
        };
        let source = source.doing(failed)?;
        if mount.selinux_relabel && !labels.mount.is_empty() {
            let relabelled = host.relabel(&source.path, &labels.mount).await;
            relabelled.doing(failed)?;
        }
        Ok(source)
    }

    /// Mounts of the volumes that the image declares, where each gets a directory of the host.
    pub(super) async fn declared_volumes(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        labels: &Labels,
    ) -> Result<Vec<Mount>, EngineError> {
        if self.inner.settings.image_volumes != ImageVolumes::Bind {
            return Ok(Vec::new());
        }
        let requested = |place: &str| {
            let mut mounts = plan.config.mounts.iter();
            mounts.any(|mount| mount.container_path.trim_end_matches('/') == place)
        };
        let mut mounts = Vec::new();
        for (number, volume) in plan.image.config.volumes.iter().enumerate() {
            let place = format!("/{}", volume.trim_matches('/'));
            if place == "/" || requested(&place) {
                continue;
            }
            let records = &self.inner.ports.records;
            let source = records
                .make_volume(dirs, number, plan.ownership(labels))
                .await;
            let source = source
                .doing(|| format!("failed to make volume {place} of container {}", plan.name))?;
            let options = ["private", "bind", "rw"].map(str::to_owned).to_vec();
            let mount = MountBuilder::default()
                .destination(place)
                .typ("bind")
                .source(source)
                .options(options)
                .build();
            mounts.push(mount.expect("a mount without id mappings is always valid"));
        }
        Ok(mounts)
    }
}

/// The files of an artifact below `sub_path`, by their names from there.
fn part_of(
    mut artifact: ResolvedArtifact,
    name: &str,
    sub_path: &str,
) -> Result<ResolvedArtifact, EngineError> {
    let parts = sub_path.split('/');
    let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() {
        return Ok(artifact);
    }
    // No file has `..` in its name.
    let directory = parts.join("/") + "/";
    artifact.files = artifact
        .files
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_prefix(&directory)?.to_owned(), path)))
        .collect();
    if artifact.files.is_empty() {
        return Err(EngineError::refused(format!(
            "{IMAGE_MOUNT_FAILED}: sub path {sub_path:?} does not exist in OCI artifact volume {name:?}"
        )));
    }
    Ok(artifact)
}

/// The image that a mount is to be made of.
fn mounted_image(mount: &v1::Mount) -> Option<&str> {
    let image = mount.image.as_ref()?;
    Some(image.image.as_str()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_artifact_is_what_lies_below_the_sub_path() {
        let artifact = || ResolvedArtifact {
            id: "1".into(),
            files: ["a", "d/b", "d/e/c", "de/x"]
                .map(|name| (name.to_owned(), name.into()))
                .to_vec(),
        };
        let names = |sub_path: &str| -> Result<Vec<String>, EngineError> {
            let part = part_of(artifact(), "q.io/a:1", sub_path)?;
            Ok(part.files.into_iter().map(|(name, _)| name).collect())
        };
        assert_eq!(names("").unwrap().len(), 4);
        assert_eq!(names(".").unwrap().len(), 4);
        assert_eq!(names("d").unwrap(), ["b", "e/c"]);
        assert_eq!(names("./d//e/").unwrap(), ["c"]);
        for none in ["a", "nowhere", "..", "d/..", "../d"] {
            let error = names(none).unwrap_err();
            assert_eq!(
                error.message(),
                format!(
                    "ImageVolumeMountFailed: sub path {none:?} does not exist in OCI artifact volume \"q.io/a:1\""
                )
            );
        }
    }
}
