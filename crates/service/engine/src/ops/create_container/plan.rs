//! What a request for a container means, decided and checked before the host is touched.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crioxide_cri_api::v1;
use crioxide_names::ContainerId;
use crioxide_runtime_spec::{labels, log_path};

use super::{checkpoint::Checkpoint, volumes::MountedImage};
use crate::{
    Engine, EngineError, engine::lookup_error, image_claims::ImageUse, index::LookupError,
    pod::Pod, ports::ResolvedImage,
};

/// Everything that is decided before the host is touched.
pub(super) struct Plan {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) pod: Arc<Pod>,
    pub(super) config: v1::ContainerConfig,
    pub(super) sandbox: v1::PodSandboxConfig,
    pub(super) metadata: v1::ContainerMetadata,
    pub(super) image: ResolvedImage,
    /// The image as the request names it.
    pub(super) image_text: String,
    pub(super) log_path: PathBuf,
    pub(super) privileged: bool,
    /// The program that runs it because of its platform; empty for the handler's usual one.
    pub(super) platform_program: String,
    /// What its processes are restored from, instead of starting one.
    pub(super) checkpoint: Option<Checkpoint>,
    /// The images of its volumes, by where they are mounted.
    pub(super) volume_images: BTreeMap<String, MountedImage>,
    /// Keeps all these images until the container is known.
    pub(super) _image_uses: Vec<ImageUse>,
}

impl Engine {
    pub(super) fn pod_for(&self, id: &str) -> Result<Arc<Pod>, EngineError> {
        let pod = self.inner.pods.find(id).map_err(|error| match error {
            LookupError::Empty => EngineError::refused("PodSandboxId should not be empty"),
            LookupError::NotFound { .. } => {
                EngineError::refused(format!("specified sandbox not found: {id}"))
            }
            LookupError::Ambiguous { .. } => lookup_error("pod", id, &error),
        })?;
        if pod.is_stopped() {
            return Err(EngineError::refused(format!(
                "CreateContainer failed as the sandbox was stopped: {}",
                pod.id
            )));
        }
        Ok(pod)
    }

    pub(super) async fn plan_container(
        &self,
        mut config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
        metadata: v1::ContainerMetadata,
        pod: Arc<Pod>,
        name: String,
    ) -> Result<Plan, EngineError> {
        labels::check_sizes(&config.labels)
            .map_err(|error| EngineError::failed(format!("container {name}"), &error))?;
        config.annotations = self.inner.settings.filter_annotations(
            &pod.info.runtime_handler,
            &sandbox.annotations,
            &config.annotations,
        );
        let image_text = config
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default();
        if image_text.is_empty() {
            return Err(EngineError::refused(
                "CreateContainerRequest.ContainerConfig.Image.Image is empty",
            ));
        }
        let asked = config
            .image
            .as_ref()
            .map_or("", |image| image.user_specified_image.as_str());
        let namespace = &pod.info.namespace;
        let (image, checkpoint) = self
            .image_or_checkpoint(&image_text, asked, namespace, &name)
            .await?;
        let id = ContainerId::generate();
        let volume_images = self.volume_images(&config.mounts, namespace).await?;
        let images = volume_images.values().map(MountedImage::id);
        let images = std::iter::once(image.id.as_str())
            .chain(checkpoint.as_ref().and_then(Checkpoint::image_id))
            .chain(images);
        let image_uses = images
            .map(|image| {
                let claims = &self.inner.image_claims;
                let claim = claims.use_image(image, id.as_str());
                claim.ok_or_else(|| EngineError::refused(format!("image {image} is being removed")))
            })
            .collect::<Result<_, _>>()?;
        let pod_logs = std::path::Path::new(&pod.info.log_path)
            .parent()
            .unwrap_or(std::path::Path::new("/"));
        let log_path =
            log_path::log_path(&pod_logs.to_string_lossy(), &config.log_path, id.as_str())
                .map_err(|error| EngineError::failed(format!("container {name}"), &error))?;
        let security = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let privileged = security.is_some_and(|security| security.privileged);
        // The user's own words survive where the kubelet resolved the image to an id.
        let user_text = config
            .image
            .as_ref()
            .map(|image| image.user_specified_image.clone())
            .unwrap_or_default();
        let image_text = match (&checkpoint, user_text.is_empty()) {
            // It is a container of the image that the checkpoint's was of.
            (Some(_), _) if image.name.is_empty() => image.id.to_string(),
            (Some(_), _) => image.name.clone(),
            (None, true) => image_text,
            (None, false) => user_text,
        };
        let handler = &pod.info.runtime_handler;
        let program = self
            .inner
            .settings
            .platform_program(handler, &image.config.platform);
        Ok(Plan {
            platform_program: program.to_owned(),
            id,
            name,
            pod,
            config,
            sandbox,
            metadata,
            image,
            image_text,
            log_path,
            privileged,
            checkpoint,
            volume_images,
            _image_uses: image_uses,
        })
    }
}
