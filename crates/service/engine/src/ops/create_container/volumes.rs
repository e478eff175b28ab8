//! Sources of the volumes that a request names.

use std::collections::BTreeMap;

use crioxide_runtime_spec::mounts::volumes::VolumeSource;

use super::plan::Plan;
use crate::{Engine, EngineError, error::Context as _, ports::MissingSource};

impl Engine {
    pub(super) async fn volume_sources(
        &self,
        plan: &Plan,
    ) -> Result<BTreeMap<String, VolumeSource>, EngineError> {
        let mut sources = BTreeMap::new();
        for mount in &plan.config.mounts {
            if mount
                .image
                .as_ref()
                .is_some_and(|image| !image.image.is_empty())
            {
                return Err(EngineError::refused(
                    "ImageVolumeMountFailed: image volumes are not supported yet",
                ));
            }
            if mount.host_path.is_empty() {
                continue; // the spec's own check names it
            }
            let rejected = self
                .inner
                .settings
                .rejected_mount_sources
                .iter()
                .any(|path| path.as_os_str() == mount.host_path.as_str());
            let missing = if rejected {
                MissingSource::Reject
            } else {
                MissingSource::Create
            };
            let source = self
                .inner
                .ports
                .host
                .mount_source(&mount.host_path, missing)
                .await;
            let source = source.doing(|| {
                format!(
                    "failed to mount {} in container {}",
                    mount.host_path, plan.name
                )
            })?;
            sources.insert(mount.container_path.clone(), source);
        }
        Ok(sources)
    }
}
