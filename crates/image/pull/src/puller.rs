//! Pulls: names to endpoints to images in the store.

mod request;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crioxide_names::{Digest, ImageId, ImageReference};
use crioxide_registry::{
    AuthFiles, ConfPaths, Credentials, Endpoint, EndpointKind, LoadRegistriesConfError, Policy,
    RegistriesConf, RegistryClient, ShortNameMode, SignaturePlace, SignaturePlaces,
};
use tokio::sync::Semaphore;

pub use request::PullRequest;
pub use settings::{PolicySource, PullSettings};

use crate::artifacts::Artifacts;
use crate::copy::patience::Patience;
use crate::copy::{CopiedImage, Copier, CopyError};
use crate::error::{MirrorFailures, PullError, chain};
use crate::jobs::Jobs;
use crate::layer::locks::LayerLocks;
use crate::manifest::ManifestError;
use crate::progress::Audience;
use crate::source::{RegistrySource, Source};
use crate::trust::Trust;

/// Pulls images into one store. Share it: equal pulls are joined, layers are fetched once.
#[derive(Debug)]
pub struct Puller {
    inner: Arc<Inner>,
    jobs: Jobs<JobKey, Outcome, Audience>,
}

type Outcome = Result<PulledImage, Arc<PullError>>;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) copier: Copier,
    client: Arc<RegistryClient>,
    auth: AuthFiles,
    conf_paths: ConfPaths,
    short_name_mode: Option<ShortNameMode>,
    conf: RwLock<Arc<RegistriesConf>>,
    pub(crate) policy: PolicySource,
    signature_places: PathBuf,
    pub(crate) scratch: PathBuf,
    pub(crate) artifacts: Artifacts,
}

/// Pulls with equal keys give equal results.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct JobKey {
    reference: String,
    credentials: Option<Credentials>,
    auth_file: Option<PathBuf>,
    policy: Option<PathBuf>,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Its id in the store.
    pub id: ImageId,
    /// The full name it was pulled by and now has.
    pub reference: ImageReference,
    /// Digest of what the name leads to: the manifest, or the list it was chosen from.
    pub digest: Digest,
    /// Where it came from; a mirror has another host than `reference`.
    pub endpoint: String,
}

impl Puller {
    /// Reads the registries configuration and makes a puller.
    pub fn new(settings: PullSettings) -> Result<Self, LoadRegistriesConfError> {
        let conf = load_conf(&settings.registries, settings.short_name_mode)?;
        let artifacts = Artifacts::new(
            settings.store.graph_root(),
            &settings.additional_artifact_stores,
        );
        let patience = Patience::new(settings.disk_timeout, settings.store.image_root());
        let inner = Inner {
            artifacts,
            copier: Copier {
                store: settings.store,
                platform: settings.platform,
                permits: Arc::new(Semaphore::new(settings.max_parallel_layers.max(1))),
                layer_locks: LayerLocks::default(),
                decryption_keys: RwLock::new(settings.decryption_keys),
                patience,
            },
            client: RegistryClient::new(settings.client),
            auth: settings.auth_files,
            conf_paths: settings.registries,
            short_name_mode: settings.short_name_mode,
            conf: RwLock::new(Arc::new(conf)),
            policy: settings.policy,
            signature_places: settings.signature_places,
            scratch: settings.scratch,
        };
        Ok(Self {
            inner: Arc::new(inner),
            jobs: Jobs::new(),
        })
    }

    /// Reads the registries configuration again; a flawed one changes nothing.
    pub fn reload_registries(&self) -> Result<(), LoadRegistriesConfError> {
        let conf = load_conf(&self.inner.conf_paths, self.inner.short_name_mode)?;
        *self
            .inner
            .conf
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(conf);
        Ok(())
    }

    /// Looks for the keys of encrypted layers in another directory from now on.
    pub fn set_decryption_keys(&self, directory: &Path) {
        let keys = self.inner.copier.decryption_keys.write();
        directory.clone_into(&mut keys.unwrap_or_else(PoisonError::into_inner));
    }

    /// The registries configuration in force.
    #[must_use]
    pub fn registries(&self) -> Arc<RegistriesConf> {
        self.inner.conf()
    }

    /// Pulls an image, or waits for an equal pull that runs already.
    ///
    /// May be dropped at any time: the pull goes on while somebody else waits for it and is undone otherwise.
    pub async fn pull(&self, request: PullRequest) -> Result<PulledImage, Arc<PullError>> {
        let key = JobKey {
            reference: request.reference.clone(),
            credentials: request.credentials.clone(),
            auth_file: request.auth_file.clone(),
            policy: request.policy.clone(),
        };
        let (mut progress, lost) = (request.progress.clone(), request.reference.clone());
        let inner = self.inner.clone();
        let job = self.jobs.join(&key, |audience| {
            if let Some(progress) = progress.take() {
                audience.join(progress);
            }
            async move { inner.pull(&request, &audience).await.map_err(Arc::new) }
        });
        if let Some(progress) = progress {
            job.context.join(progress);
        }
        job.outcome()
            .await
            .map_err(|_| Arc::new(PullError::Lost { reference: lost }))?
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Inner {
    pub(crate) fn conf(&self) -> Arc<RegistriesConf> {
        self.conf
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn pull(
        &self,
        request: &PullRequest,
        audience: &Arc<Audience>,
    ) -> Result<PulledImage, PullError> {
        let conf = self.conf();
        let candidates = conf.candidates(request.name()?)?;
        let policy = self.policy.load(request.policy.as_deref())?.map(Arc::new);
        let single = candidates.len() == 1;
        let mut failures = Vec::new();
        for candidate in candidates {
            let pulled = self
                .pull_candidate(request, &conf, policy.clone(), &candidate, audience)
                .await;
            match pulled {
                Ok(pulled) => return Ok(pulled),
                Err(error) if single => return Err(error),
                Err(error) => failures.push(chain(&error)),
            }
        }
        Err(PullError::AllCandidates {
            reference: request.reference.clone(),
            failures,
        })
    }

    /// Tries the mirrors and then the registry of one full name.
    async fn pull_candidate(
        &self,
        request: &PullRequest,
        conf: &RegistriesConf,
        policy: Option<Arc<Policy>>,
        reference: &ImageReference,
        audience: &Arc<Audience>,
    ) -> Result<PulledImage, PullError> {
        let trust = Trust::in_registry(policy, reference)?;
        let places = SignaturePlaces::load(&self.signature_places)?;
        let endpoints = conf.resolve(reference)?;
        let mut mirrors = MirrorFailures::default();
        for endpoint in &endpoints.mirrors {
            match self
                .pull_endpoint(request, (reference, &trust), (endpoint, &places), audience)
                .await?
            {
                Ok(pulled) => return Ok(pulled),
                Err(error) if error.blames_source() => {
                    tracing::info!(%reference, %endpoint, error = chain(&error), "mirror failed, trying the next");
                    mirrors.push(&endpoint.to_string(), &error);
                }
                Err(error) => return Err(PullError::failed(reference.to_string(), mirrors, error)),
            }
        }
        let pulled = self
            .pull_endpoint(
                request,
                (reference, &trust),
                (&endpoints.primary, &places),
                audience,
            )
            .await?;
        pulled.map_err(|error| PullError::failed(reference.to_string(), mirrors, error))
    }

    async fn pull_endpoint(
        &self,
        request: &PullRequest,
        (reference, trust): (&ImageReference, &Trust),
        (endpoint, places): (&Endpoint, &SignaturePlaces),
        audience: &Arc<Audience>,
    ) -> Result<Result<PulledImage, CopyError>, PullError> {
        tracing::debug!(%reference, %endpoint, "trying to pull");
        let auth = match &request.auth_file {
            Some(path) => self.auth.preferring(path.clone()),
            None => self.auth.clone(),
        };
        let auth = auth.consulting(self.conf().credential_helpers());
        // The request's credentials are for the registry that it names, not for its mirrors.
        let credentials = request
            .credentials
            .clone()
            .filter(|_| endpoint.kind == EndpointKind::Primary);
        let repository = self
            .client
            .repository(endpoint, credentials, &auth)
            .await
            .map_err(|source| PullError::Endpoint {
                reference: reference.to_string(),
                source,
            })?;
        let signatures: SignaturePlace = places.find(&endpoint.to_string());
        let source = Arc::new(RegistrySource::new(
            repository,
            endpoint.clone(),
            signatures,
        ));
        let copied = self
            .copier
            .copy(
                source.clone(),
                vec![reference.to_string()],
                audience.clone(),
                trust,
            )
            .await;
        let copied = match copied {
            Err(CopyError::Manifest(ManifestError::NotAnImage { .. })) => {
                tracing::info!(%reference, "not a container image: pulling it as an artifact");
                self.pull_artifact(&*source, reference, trust).await
            }
            other => other,
        };
        Ok(copied.map(|CopiedImage { id, digest }| PulledImage {
            id,
            reference: reference.clone(),
            digest,
            endpoint: endpoint.to_string(),
        }))
    }
}

impl Inner {
    /// An artifact's id is made of its manifest, as it may have no config.
    async fn pull_artifact(
        &self,
        source: &dyn Source,
        reference: &ImageReference,
        trust: &Trust,
    ) -> Result<CopiedImage, CopyError> {
        let digest = self
            .artifacts
            .pull(source, reference, &self.copier.platform, trust)
            .await?;
        let id = ImageId::parse(digest.hex()).map_err(|e| ManifestError::Invalid {
            digest: digest.to_string(),
            reason: e.to_string(),
        })?;
        Ok(CopiedImage { id, digest })
    }
}

fn load_conf(
    paths: &ConfPaths,
    mode: Option<ShortNameMode>,
) -> Result<RegistriesConf, LoadRegistriesConfError> {
    let conf = RegistriesConf::load(paths)?;
    Ok(match mode {
        Some(mode) => conf.with_short_name_mode(mode),
        None => conf,
    })
}
