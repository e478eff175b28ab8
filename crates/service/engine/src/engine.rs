//! The engine object: what exists, and the ports to change it.

use std::sync::Arc;

use crioxide_cri_api::v1;
use crioxide_names::{ContainerId, PodId};

use crate::{
    container::Container,
    creations::Creations,
    error::{EngineError, ErrorKind},
    events::Events,
    image_claims::{ImageClaims, ImageRemoval},
    index::{Index, LookupError},
    pod::Pod,
    ports::Ports,
    settings::Settings,
};

/// All pods and containers of the node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    pub(crate) pods: Index<Pod>,
    pub(crate) containers: Index<Container>,
    pub(crate) pod_creations: Arc<Creations<PodId>>,
    pub(crate) container_creations: Arc<Creations<ContainerId>>,
    pub(crate) events: Events,
    pub(crate) image_claims: Arc<ImageClaims>,
}

impl Engine {
    /// An engine that knows no pods yet; [`Engine::restore`] finds those of the store.
    #[must_use]
    pub fn new(ports: Ports, settings: Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                events: Events::new(settings.pod_events),
                ports,
                settings,
                pods: Index::default(),
                containers: Index::default(),
                pod_creations: Arc::new(Creations::new("sandbox creating")),
                container_creations: Arc::new(Creations::new("container creating")),
                image_claims: Arc::default(),
            }),
        }
    }

    /// The image service.
    #[must_use]
    pub fn images(&self) -> Arc<dyn crate::ports::ImageService> {
        self.inner.ports.images.clone()
    }

    /// The pod network's readiness, and why not.
    ///
    /// # Errors
    /// The reason in words.
    pub async fn network_ready(&self) -> Result<(), String> {
        self.inner.ports.network.ready().await
    }

    /// Settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Claims an image for its removal: no container is made from it or mounts it while the claim lasts.
    ///
    /// # Errors
    /// The id of a container that needs the image.
    pub fn claim_image_for_removal(&self, image_id: &str) -> Result<ImageRemoval, String> {
        let recorded = || self.user_of_image(image_id);
        self.inner.image_claims.remove_image(image_id, recorded)
    }

    /// A container that was made from an image or mounts it.
    fn user_of_image(&self, image_id: &str) -> Option<String> {
        let mounts = |container: &Container| {
            let mut images = container
                .info
                .volumes
                .iter()
                .filter_map(|v| v.image.as_ref());
            images.any(|image| image.image == image_id)
        };
        self.inner
            .containers
            .all()
            .iter()
            .find(|c| c.info.image_ref == image_id || mounts(c))
            .map(|c| c.id.to_string())
    }

    pub(crate) fn find_pod(&self, id: &str) -> Result<Arc<Pod>, EngineError> {
        self.inner
            .pods
            .find(id)
            .map_err(|error| lookup_error("pod", id, &error))
    }

    pub(crate) fn find_container(&self, id: &str) -> Result<Arc<Container>, EngineError> {
        self.inner
            .containers
            .find(id)
            .map_err(|error| lookup_error("container", id, &error))
    }

    /// The pod, or `None` when there is none of that id, which stops and removals take for done.
    pub(crate) fn pod_if_exists(&self, id: &str) -> Result<Option<Arc<Pod>>, EngineError> {
        match self.inner.pods.find(id) {
            Ok(pod) => Ok(Some(pod)),
            Err(LookupError::NotFound { .. }) => Ok(None),
            Err(LookupError::Empty) => {
                Err(EngineError::refused("PodSandboxId should not be empty"))
            }
            Err(error) => Err(lookup_error("pod", id, &error)),
        }
    }

    /// The container, or `None` when there is none of that id.
    pub(crate) fn container_if_exists(
        &self,
        id: &str,
    ) -> Result<Option<Arc<Container>>, EngineError> {
        match self.inner.containers.find(id) {
            Ok(container) => Ok(Some(container)),
            Err(LookupError::NotFound { .. }) => Ok(None),
            Err(error) => Err(lookup_error("container", id, &error)),
        }
    }

    pub(crate) fn containers_of(&self, pod: &Pod) -> Vec<Arc<Container>> {
        pod.containers()
            .iter()
            .filter_map(|id| self.inner.containers.get(id.as_str()))
            .collect()
    }

    /// Version of the interface and of ours, as `crio` states it.
    #[must_use]
    pub fn version(&self) -> v1::VersionResponse {
        v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "cri-o".to_owned(),
            runtime_version: self.inner.settings.version.clone(),
            runtime_api_version: "v1".to_owned(),
        }
    }
}

pub(crate) fn lookup_error(what: &str, id: &str, error: &LookupError) -> EngineError {
    let kind = match error {
        LookupError::NotFound { .. } => ErrorKind::NotFound,
        LookupError::Ambiguous { .. } | LookupError::Empty => ErrorKind::Failed,
    };
    EngineError::new(kind, format!("could not find {what} {id:?}: {error}"))
}
