//! Containers that are restored from a checkpoint: an archive of the node, or an image that holds one.
//!
//! Of the checkpoint itself only whose it is counts here: the image that its root was made of. Everything else about the
//! new container is what its request says.

use crioxide_node_records::go_time::Moment;
use oci_spec::runtime::Spec;

use crate::{
    Engine, EngineError,
    error::Context as _,
    ports::{CheckpointOrigin, CheckpointSource, CheckpointSupport, ResolvedImage},
};

/// A checkpoint that a container is restored from.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) source: CheckpointSource,
    /// As the request names it.
    pub(super) name: String,
    pub(super) origin: CheckpointOrigin,
}

impl Checkpoint {
    pub(super) fn image_id(&self) -> Option<&str> {
        match &self.source {
            CheckpointSource::Image(id) => Some(id.as_str()),
            CheckpointSource::Archive(_) => None,
        }
    }

    pub(super) fn taken(&self) -> Moment {
        self.origin.taken
    }

    /// What was mounted must be mounted again: the processes have it open.
    pub(super) fn check_mounts(&self, spec: &Spec) -> Result<(), EngineError> {
        let mounts = || spec.mounts().iter().flatten();
        let missing: Vec<String> = self
            .origin
            .mounted
            .iter()
            .filter(|place| mounts().all(|mount| mount.destination() != *place))
            .map(|place| place.display().to_string())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(EngineError::refused(format!(
            "restoring {:?} expects following bind mounts defined ({})",
            self.name,
            missing.join(",")
        )))
    }
}

impl Engine {
    /// What the image of a request means: an image, or a checkpoint and the image that its container had.
    pub(super) async fn image_or_checkpoint(
        &self,
        text: &str,
        asked: &str,
        namespace: &str,
        container: &str,
    ) -> Result<(ResolvedImage, Option<Checkpoint>), EngineError> {
        let restores = self.inner.settings.checkpoints == CheckpointSupport::Restore;
        let images = &self.inner.ports.images;
        let source = if text.starts_with('/') {
            if !restores {
                return Err(EngineError::refused(format!(
                    "image {text} is a path: checkpoint/restore support not available"
                )));
            }
            CheckpointSource::Archive(text.into())
        } else {
            let image = images.resolve(text).await;
            let image = image.doing(|| format!("failed to find image {text}"))?;
            let image = image.ok_or_else(|| {
                EngineError::refused(format!(
                    "image {text} not found: pull it before creating container {container}"
                ))
            })?;
            let allowed = images.verify(&image, asked, namespace).await;
            allowed.doing(|| format!("image of container {container}"))?;
            if image.checkpoint.is_none() || !restores {
                return Ok((image, None));
            }
            CheckpointSource::Image(image.id)
        };
        let origin = self.inner.ports.checkpoints.describe(&source).await;
        let origin = origin.doing(|| format!("failed to read checkpoint {text}"))?;
        let image = self.image_of(text, &origin).await?;
        let allowed = images.verify(&image, &image.name, namespace).await;
        allowed.doing(|| format!("image of checkpoint {text}"))?;
        let checkpoint = Checkpoint {
            source,
            name: text.to_owned(),
            origin,
        };
        Ok((image, Some(checkpoint)))
    }

    /// The image that a checkpoint's container had. By its id: a name may mean another one by now.
    async fn image_of(
        &self,
        checkpoint: &str,
        origin: &CheckpointOrigin,
    ) -> Result<ResolvedImage, EngineError> {
        let (id, name) = (&origin.image_id, &origin.image_name);
        let wanted = if id.is_empty() { name } else { id };
        if wanted.is_empty() {
            return Err(EngineError::refused(format!(
                "checkpoint {checkpoint} does not tell the image of its container"
            )));
        }
        let found = self.inner.ports.images.resolve(wanted).await;
        let found = found.doing(|| format!("failed to find image {wanted}"))?;
        found.ok_or_else(|| {
            EngineError::refused(format!(
                "image {wanted} ({name}) of checkpoint {checkpoint} not found: pull it before restoring"
            ))
        })
    }
}
