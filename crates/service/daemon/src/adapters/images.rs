//! Images of the store and their registries, in CRI's words.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_engine::{
    Engine,
    ports::{
        ImageService, ImageStatus, PortError, PortResult, PullRequest, ResolvedArtifact,
        ResolvedImage,
    },
};
use crioxide_names::ImageId;
use crioxide_pull::{ArtifactInfo, ImageInfo, ImageUser, Images, PinnedImages, Puller, Removal};
use crioxide_registry::Credentials;
use crioxide_runtime_spec::ImageFacts;
use crioxide_store::Store;

use super::{namespaced_auth::NamespacedAuth, pull_counts::PullCounts};
use crate::blocking;

/// The image service behind the CRI.
pub(crate) struct StoreImages {
    pub(crate) store: Arc<Store>,
    pub(crate) puller: Arc<Puller>,
    pub(crate) images: Arc<Images>,
    pub(crate) pinned: PinnedImages,
    /// `signature_policy_dir`, for per-namespace policies.
    pub(crate) policy_dir: PathBuf,
    /// `namespaced_auth_dir`, for auth files that are used once.
    pub(crate) auth_dir: PathBuf,
    /// Asked before a removal; set once the engine exists, which needs this service first.
    pub(crate) engine: OnceLock<Engine>,
}

/// Names of the container whose checkpoint an image holds: CRI-O's, and that of the tools around it.
const CHECKPOINT_ANNOTATIONS: &[&str] = &[
    "io.kubernetes.cri-o.annotations.checkpoint.name",
    "org.criu.checkpoint.container.name",
];

impl StoreImages {
    fn cri_image(&self, info: &ImageInfo) -> v1::Image {
        let (uid, username) = match &info.user {
            ImageUser::Unset => (None, String::new()),
            ImageUser::Uid(uid) => (Some(v1::Int64Value { value: *uid }), String::new()),
            ImageUser::Name(name) => (None, name.clone()),
        };
        v1::Image {
            id: info.id.to_string(),
            repo_tags: info.repo_tags.clone(),
            repo_digests: info.repo_digests.clone(),
            size: info.size,
            uid,
            username,
            spec: None,
            pinned: self.pinned.contains(info),
        }
    }

    fn cri_artifact(&self, info: &ArtifactInfo) -> v1::Image {
        let name = info.name.as_ref();
        let repository = name.map_or_else(
            || "unknown".to_owned(),
            |name| name.repository().to_string(),
        );
        let repo_digest = format!("{repository}@{}", info.digest);
        let repo_tags = name.filter(|name| name.tag().is_some());
        let repo_tags: Vec<String> = repo_tags.iter().map(ToString::to_string).collect();
        // What lies in an additional store is not ours to collect.
        let pinned = info.additional_store.is_some()
            || repo_tags
                .iter()
                .chain([&repo_digest])
                .any(|name| self.pinned.matches(name));
        v1::Image {
            id: info.id.clone(),
            repo_tags,
            repo_digests: vec![repo_digest],
            size: info.size,
            uid: None,
            username: String::new(),
            spec: None,
            pinned,
        }
    }

    async fn find_artifact(&self, name: &str) -> PortResult<Option<ArtifactInfo>> {
        let (images, name) = (self.images.clone(), name.to_owned());
        blocking::run(move || images.artifact(&name)).await
    }

    async fn find(&self, image: &str) -> PortResult<Option<ImageInfo>> {
        let (images, image) = (self.images.clone(), image.to_owned());
        blocking::run(move || images.status(&image)).await
    }

    /// The policy that a pod's namespace has of its own, if any.
    fn namespace_policy(&self, namespace: &str) -> Option<PathBuf> {
        if namespace.is_empty() || namespace.contains(['/', '\0']) || namespace.starts_with('.') {
            return None;
        }
        let path = self.policy_dir.join(format!("{namespace}.json"));
        path.exists().then_some(path)
    }
}

/// Credentials of a request: user and password, or both in one. CRI-O ignores the tokens, so do we.
fn credentials(auth: &v1::AuthConfig) -> PortResult<Option<Credentials>> {
    if !auth.username.is_empty() {
        return Ok(Some(Credentials::password(&auth.username, &auth.password)));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let decoded = Credentials::decode(&auth.auth);
    Ok(Some(decoded.ok_or(
        "the auth of the request is not base64 of user:password",
    )?))
}

fn facts(info: &ImageInfo) -> ImageFacts {
    let config = &info.config.config;
    ImageFacts {
        platform: format!("{}/{}", info.config.os, info.config.architecture),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        volumes: config.volumes.keys().cloned().collect(),
        stop_signal: config.stop_signal.clone(),
        labels: config.labels.clone(),
    }
}

#[async_trait]
impl ImageService for StoreImages {
    async fn resolve(&self, image: &str) -> PortResult<Option<ResolvedImage>> {
        let Some(info) = self.find(image).await? else {
            return Ok(None);
        };
        Ok(Some(ResolvedImage {
            id: info.id.clone(),
            name: info.repo_tags.first().cloned().unwrap_or_default(),
            repo_digests: info.repo_digests.clone(),
            config: facts(&info),
            checkpoint: CHECKPOINT_ANNOTATIONS
                .iter()
                .find_map(|name| info.annotations.get(*name).cloned()),
        }))
    }

    async fn verify(&self, image: &ResolvedImage, asked: &str, namespace: &str) -> PortResult<()> {
        let Some(policy) = self.namespace_policy(namespace) else {
            return Ok(());
        };
        if asked.is_empty() {
            let reason = "user specified image not specified, cannot verify image signature";
            return Err(reason.into());
        }
        let (images, id, asked) = (self.images.clone(), image.id.to_string(), asked.to_owned());
        blocking::run(move || {
            images
                .verify(&id, &asked, &policy)
                .map_err(|error| PortError::from(crioxide_engine::chain(&error)))
        })
        .await
    }

    async fn resolve_artifact(&self, artifact: &str) -> PortResult<Option<ResolvedArtifact>> {
        let (images, name) = (self.images.clone(), artifact.to_owned());
        let found = blocking::run(move || images.artifact_files(&name)).await?;
        Ok(found.map(|(info, files)| ResolvedArtifact {
            id: info.id,
            files: files
                .into_iter()
                .map(|file| (file.name, file.path))
                .collect(),
        }))
    }

    async fn list(&self, filter: Option<String>) -> PortResult<Vec<v1::Image>> {
        if let Some(image) = filter {
            if let Some(info) = self.find(&image).await? {
                return Ok(vec![self.cri_image(&info)]);
            }
            let artifact = self.find_artifact(&image).await?;
            return Ok(artifact
                .iter()
                .map(|info| self.cri_artifact(info))
                .collect());
        }
        let images = self.images.clone();
        let (all, artifacts) = blocking::run(move || {
            let artifacts = images.artifacts()?;
            Ok::<_, crioxide_pull::ImagesError>((images.list()?, artifacts))
        })
        .await?;
        let images = all.iter().map(|info| self.cri_image(info));
        let artifacts = artifacts.iter().map(|info| self.cri_artifact(info));
        Ok(images.chain(artifacts).collect())
    }

    async fn status(&self, image: &str) -> PortResult<Option<ImageStatus>> {
        let Some(info) = self.find(image).await? else {
            let artifact = self.find_artifact(image).await?;
            return Ok(artifact.map(|info| ImageStatus {
                image: self.cri_artifact(&info),
                info: serde_json::json!({"annotations": info.annotations}).to_string(),
            }));
        };
        let mut image = self.cri_image(&info);
        let annotations = info.annotations.clone().into_iter().collect();
        image.spec = Some(v1::ImageSpec {
            annotations,
            ..Default::default()
        });
        let verbose =
            serde_json::json!({"labels": info.config.config.labels, "imageSpec": &*info.config});
        Ok(Some(ImageStatus {
            image,
            info: verbose.to_string(),
        }))
    }

    async fn pull(&self, request: PullRequest) -> PortResult<ImageId> {
        tracing::info!("Pulling image: {}", request.image);
        let credentials = request
            .auth
            .as_ref()
            .map(credentials)
            .transpose()?
            .flatten();
        let auth = match credentials {
            Some(_) => None,
            None => NamespacedAuth::take(&self.auth_dir, &request.namespace, &request.image)
                .map_err(|error| format!("use an auth file of the namespace: {error}"))?,
        };
        let counts = Arc::new(PullCounts::new(&request.image));
        let wish = crioxide_pull::PullRequest {
            credentials,
            auth_file: auth.as_ref().map(|auth| auth.path().to_owned()),
            policy: self.namespace_policy(&request.namespace),
            progress: Some(counts.clone()),
            ..crioxide_pull::PullRequest::new(&request.image)
        };
        let pulled = self
            .puller
            .pull(wish)
            .await
            .map_err(|error| crioxide_engine::chain(&*error));
        counts.ended(pulled.as_ref().err().map(String::as_str));
        let pulled = pulled?;
        tracing::info!(
            "Pulled image: {} from {}",
            pulled.reference,
            pulled.endpoint
        );
        Ok(pulled.id)
    }

    async fn remove(&self, image: &str) -> PortResult<()> {
        // Held until the image is gone.
        let mut _claim = None;
        let id = match self.find(image).await? {
            Some(info) => Some(info.id.to_string()).filter(|_| info.repo_tags.len() <= 1),
            None => self.find_artifact(image).await?.map(|info| info.id),
        };
        if let (Some(engine), Some(id)) = (self.engine.get(), id) {
            let claim = engine.claim_image_for_removal(&id);
            _claim = Some(claim.map_err(|user| format!("the image is in use by {user}"))?);
        }
        let (images, image) = (self.images.clone(), image.to_owned());
        blocking::run(move || {
            let removal = images.remove(&image)?;
            tracing::debug!("Image removal: {removal:?}");
            if removal == Removal::NotFound && images.remove_artifact(&image)? {
                tracing::debug!("Artifact removed: {image}");
            }
            Ok::<_, crioxide_pull::ImagesError>(())
        })
        .await
    }

    async fn fs_info(&self) -> PortResult<v1::ImageFsInfoResponse> {
        let store = self.store.clone();
        blocking::run(move || {
            let name = store.driver_name();
            let mountpoint = store
                .graph_root()
                .join(format!("{name}-images"))
                .to_string_lossy()
                .into_owned();
            let layers = store.layers()?;
            let sizes: BTreeMap<&str, u64> = layers
                .iter()
                .map(|layer| {
                    (
                        layer.id.as_str(),
                        u64::try_from(layer.diff_size).unwrap_or(0),
                    )
                })
                .collect();
            let usage = store.image_fs_usage()?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let filesystem = v1::FilesystemUsage {
                timestamp: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
                fs_id: Some(v1::FilesystemIdentifier { mountpoint }),
                used_bytes: Some(v1::UInt64Value {
                    value: sizes.values().sum(),
                }),
                inodes_used: Some(v1::UInt64Value {
                    value: usage.used_inodes,
                }),
            };
            Ok::<_, PortError>(v1::ImageFsInfoResponse {
                image_filesystems: vec![filesystem.clone()],
                container_filesystems: vec![filesystem],
            })
        })
        .await
    }
}
