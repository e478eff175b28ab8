//! Sources of the volumes of a container: what the request mounts and what the image declares.

use std::collections::BTreeMap;

use crioxide_cri_api::v1;
use crioxide_runtime_spec::mounts::volumes::VolumeSource;
use oci_spec::runtime::{Mount, MountBuilder};

use super::plan::Plan;
use crate::{
    Engine, EngineError,
    error::Context as _,
    ports::{ImageMount, Labels, MissingSource, RecordDirs, ResolvedImage},
    settings::ImageVolumes,
};

/// What kubelets look for at the start of the message when an image cannot be mounted.
const IMAGE_MOUNT_FAILED: &str = "ImageVolumeMountFailed";

impl Engine {
    /// The images that a request mounts, by where.
    pub(super) async fn volume_images(
        &self,
        mounts: &[v1::Mount],
    ) -> Result<BTreeMap<String, ResolvedImage>, EngineError> {
        let mut images = BTreeMap::new();
        for mount in mounts {
            let Some(name) = mounted_image(mount) else {
                continue;
            };
            let found = self.inner.ports.images.resolve(name).await;
            let found = found.doing(|| format!("{IMAGE_MOUNT_FAILED}: failed to find {name}"))?;
            let found = found.ok_or_else(|| {
                EngineError::refused(format!(
                    "{IMAGE_MOUNT_FAILED}: image {name} is not there: pull it before mounting it"
                ))
            })?;
            images.insert(mount.container_path.clone(), found);
        }
        Ok(images)
    }

    pub(super) async fn volume_sources(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        labels: &Labels,
    ) -> Result<BTreeMap<String, VolumeSource>, EngineError> {
        let mut sources = BTreeMap::new();
        for (number, mount) in plan.config.mounts.iter().enumerate() {
            let source = if let Some(image) = plan.volume_images.get(&mount.container_path) {
                let wanted = ImageMount {
                    image: image.id.clone(),
                    sub_path: mount.image_sub_path.clone(),
                    user: plan.pod.user(),
                    label: labels.mount.clone(),
                };
                self.image_source(plan, dirs, number, mount, wanted).await?
            } else if mount.host_path.is_empty() {
                continue; // the spec's own check names it
            } else {
                self.host_source(plan, mount, labels).await?
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

    async fn host_source(
        &self,
        plan: &Plan,
        mount: &v1::Mount,
        labels: &Labels,
    ) -> Result<VolumeSource, EngineError> {
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

/// The image that a mount is to be made of.
fn mounted_image(mount: &v1::Mount) -> Option<&str> {
    let image = mount.image.as_ref()?;
    Some(image.image.as_str()).filter(|name| !name.is_empty())
}
