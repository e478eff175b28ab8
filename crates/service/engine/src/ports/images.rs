//! Images, as the CRI image service and container creation see them.

use std::path::PathBuf;

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_names::ImageId;
use crioxide_runtime_spec::image_facts::ImageFacts;

use super::PortResult;

/// An image of the store that a container can be made from.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Id in the store.
    pub id: ImageId,
    /// One of its names, empty if it has none.
    pub name: String,
    /// `repository@digest` for each known combination, sorted.
    pub repo_digests: Vec<String>,
    /// The parts of its OCI config that make a container.
    pub config: ImageFacts,
    /// Name of the container whose checkpoint it holds, if that is what it is.
    pub checkpoint: Option<String>,
}

/// An OCI artifact of the store that a container can mount.
#[derive(Debug, Clone)]
pub struct ResolvedArtifact {
    /// Its id: the digits of its manifest's digest.
    pub id: String,
    /// Its files by their names, which are relative and lead nowhere else, with where they are.
    pub files: Vec<(String, PathBuf)>,
}

/// An image with what `verbose` asks for.
#[derive(Debug, Clone)]
pub struct ImageStatus {
    /// The image.
    pub image: v1::Image,
    /// Labels and OCI config as JSON: `{"labels":…,"imageSpec":…}`.
    pub info: String,
}

/// A pull as the kubelet asks for it.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Reference as given.
    pub image: String,
    /// Credentials of the request.
    pub auth: Option<v1::AuthConfig>,
    /// Kubernetes namespace of the pod it is for, empty if unknown.
    pub namespace: String,
}

/// The image store and its registries.
#[async_trait]
pub trait ImageService: Send + Sync {
    /// The image for a container, by id, id prefix, name or digest; nothing is pulled.
    async fn resolve(&self, image: &str) -> PortResult<Option<ResolvedImage>>;
    /// Whether the policy of a namespace, if it has one of its own, allows the image to be used by one who asked for it as
    /// `asked`.
    async fn verify(
        &self,
        _image: &ResolvedImage,
        _asked: &str,
        _namespace: &str,
    ) -> PortResult<()> {
        Ok(())
    }
    /// The artifact that a container is to mount, by the same names.
    async fn resolve_artifact(&self, _artifact: &str) -> PortResult<Option<ResolvedArtifact>> {
        Ok(None)
    }
    /// All images, or the one that the filter text finds.
    async fn list(&self, filter: Option<String>) -> PortResult<Vec<v1::Image>>;
    /// One image.
    async fn status(&self, image: &str) -> PortResult<Option<ImageStatus>>;
    /// Fetches an image and returns its id.
    async fn pull(&self, request: PullRequest) -> PortResult<ImageId>;
    /// Removes an image (by id) or a name of it; what is not there is no error.
    async fn remove(&self, image: &str) -> PortResult<()>;
    /// Usage of the image and container file systems.
    async fn fs_info(&self) -> PortResult<v1::ImageFsInfoResponse>;
}
