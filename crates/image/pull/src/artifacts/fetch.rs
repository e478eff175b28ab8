//! From a source into the artifact store.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::PoisonError;

use crioxide_names::{Digest, ImageReference};
use crioxide_registry::ContentHasher;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::layout::io;
use super::{ArtifactManifest, ArtifactStoreError, Artifacts, Content};
use crate::copy::CopyError;
use crate::layer::LayerError;
use crate::manifest::{Descriptor, Manifest, ManifestError, choose};
use crate::platform::Platform;
use crate::source::{RawManifest, Source};
use crate::trust::Trust;

/// More files than this are an attack.
const MAX_FILES: usize = 10_000;

/// Protects blobs from removals until the index names them.
struct Wanted<'a> {
    artifacts: &'a Artifacts,
    blobs: Vec<String>,
}

impl Artifacts {
    /// Fetches the artifact that `source` leads to, verified, and records it as `name`. What is there already is not
    /// fetched again.
    pub(crate) async fn pull(
        &self,
        source: &dyn Source,
        name: &ImageReference,
        platform: &Platform,
        trust: &Trust,
    ) -> Result<Digest, CopyError> {
        let manifest = own_manifest(source, platform).await?;
        if let Some(there) = self.in_additional_store(name).await? {
            return Ok(there);
        }
        trust.verify(source, &manifest.digest).await?;
        let invalid = |reason: String| ManifestError::Invalid {
            digest: manifest.digest.to_string(),
            reason,
        };
        let ArtifactManifest { config, layers, .. } = serde_json::from_slice(&manifest.bytes)
            .map_err(|source| ManifestError::Parse {
                digest: manifest.digest.to_string(),
                source,
            })?;
        if layers.len() > MAX_FILES {
            return Err(invalid(format!("{} files, more than {MAX_FILES}", layers.len())).into());
        }
        let blobs = config.into_iter().chain(layers).map(Content::descriptor);
        let blobs = blobs.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        self.on_thread(|artifacts| artifacts.shared.layout.prepare())
            .await?;
        let all = blobs
            .iter()
            .map(|blob| &blob.digest)
            .chain([&manifest.digest]);
        let _wanted = self.want(all.map(|digest| digest.hex().to_owned()).collect());
        for blob in &blobs {
            self.fetch(source, blob).await?;
        }
        let (name, recorded) = (name.clone(), manifest.clone());
        self.on_thread(move |artifacts| {
            artifacts.keep(&recorded.digest, &[&recorded.bytes])?;
            artifacts.record(
                &name,
                &recorded.digest,
                &recorded.media_type,
                recorded.bytes.len() as u64,
            )
        })
        .await?;
        Ok(manifest.digest)
    }

    /// The artifact of that name, if an additional store has it: it is used as it is there.
    async fn in_additional_store(
        &self,
        name: &ImageReference,
    ) -> Result<Option<Digest>, CopyError> {
        if self.shared.additional.is_empty() {
            return Ok(None);
        }
        let wanted = name.clone();
        self.on_thread(move |artifacts| {
            let candidates = [wanted];
            let mut there = artifacts.list_additional().into_iter();
            let there = there.find(|artifact| artifact.is_called("", &candidates));
            Ok(there.map(|artifact| {
                let store = artifact.additional_store.unwrap_or_default();
                tracing::info!(
                    "Artifact {} already exists in additional store {}, skipping pull",
                    candidates[0],
                    store.display()
                );
                artifact.digest
            }))
        })
        .await
    }

    async fn fetch(&self, source: &dyn Source, blob: &Descriptor) -> Result<(), CopyError> {
        if self.shared.layout.has(&blob.digest, blob.size) {
            return Ok(());
        }
        let fetch_failed = |source| LayerError::Fetch {
            digest: blob.digest.clone(),
            source,
        };
        let mut content = source.blob(blob).await.map_err(fetch_failed)?;
        let mut hasher = ContentHasher::new(blob.digest.algorithm());
        let mut received = 0;
        let mut file = self.on_thread(|artifacts| artifacts.unnamed_file()).await?;
        while let Some(piece) = content.next().await.map_err(fetch_failed)? {
            received += piece.len() as u64;
            if received > blob.size {
                break;
            }
            hasher.update(&piece);
            file = self
                .on_thread(move |artifacts| {
                    let directory = artifacts.shared.layout.directory();
                    file.write_all(&piece)
                        .map_err(|e| io("write a blob in", directory, e))?;
                    Ok(file)
                })
                .await?;
        }
        if received != blob.size {
            let (digest, wanted) = (blob.digest.clone(), blob.size);
            return Err(LayerError::WrongSize {
                digest,
                wanted,
                received,
            }
            .into());
        }
        let actual = hasher.finish();
        if actual != blob.digest {
            let digest = blob.digest.clone();
            return Err(LayerError::WrongDigest { digest, actual }.into());
        }
        let digest = blob.digest.clone();
        self.on_thread(move |artifacts| artifacts.name_file(&file, &digest))
            .await
    }

    /// Runs something that blocks where it may.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ArtifactStoreError> + Send + 'static,
    ) -> Result<T, CopyError> {
        let artifacts = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&artifacts)).await;
        let done = done.map_err(|source| CopyError::Lost { source })?;
        done.map_err(|source| CopyError::Artifacts { source })
    }

    /// Writes a whole blob.
    fn keep(&self, digest: &Digest, parts: &[&[u8]]) -> Result<(), ArtifactStoreError> {
        let mut file = self.unnamed_file()?;
        let directory = self.shared.layout.directory();
        for part in parts {
            file.write_all(part)
                .map_err(|e| io("write a blob in", directory, e))?;
        }
        self.name_file(&file, digest)
    }

    /// A file that goes away by itself unless it gets a name.
    fn unnamed_file(&self) -> Result<std::fs::File, ArtifactStoreError> {
        let directory = self.shared.layout.directory();
        tempfile::tempfile_in(directory).map_err(|e| io("make a file in", directory, e))
    }

    /// Makes a complete file the blob `digest`.
    fn name_file(&self, file: &std::fs::File, digest: &Digest) -> Result<(), ArtifactStoreError> {
        let target = self.shared.layout.blob(digest);
        let parent = target.parent().unwrap_or(&target);
        std::fs::create_dir_all(parent).map_err(|e| io("make directory", parent, e))?;
        // Users of a container other than root read it, and nobody runs it.
        file.set_permissions(Permissions::from_mode(0o644))
            .map_err(|e| io("make readable", &target, e))?;
        file.sync_data().map_err(|e| io("flush", &target, e))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, path, CWD, &target, AtFlags::SYMLINK_FOLLOW) {
            // The same content, by its name.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(io("name", &target, error.into())),
        }
    }

    fn want(&self, blobs: Vec<String>) -> Wanted<'_> {
        let mut wanted = self
            .shared
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for blob in &blobs {
            *wanted.entry(blob.clone()).or_default() += 1;
        }
        drop(wanted);
        Wanted {
            artifacts: self,
            blobs,
        }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let wanted = self.artifacts.shared.wanted.lock();
        let mut wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        for blob in &self.blobs {
            if let Some(count) = wanted.get_mut(blob) {
                *count -= 1;
                if *count == 0 {
                    wanted.remove(blob);
                }
            }
        }
    }
}

impl Content {
    fn descriptor(self) -> Result<Descriptor, String> {
        Ok(Descriptor {
            media_type: String::new(),
            digest: Digest::parse(&self.digest).map_err(|e| e.to_string())?,
            size: self.size,
            urls: self.urls,
            annotations: Default::default(),
        })
    }
}

/// The manifest that the source's name leads to, through a list if need be.
async fn own_manifest(source: &dyn Source, platform: &Platform) -> Result<RawManifest, CopyError> {
    let top = source.top_manifest().await?;
    match Manifest::parse(&top.bytes, &top.media_type, &top.digest) {
        Ok(Manifest::List(instances)) => {
            let chosen = choose(&instances, platform, &top.digest)?;
            let mut instance = source.manifest(&chosen.digest).await?;
            if instance.media_type.is_empty() {
                instance.media_type.clone_from(&chosen.media_type);
            }
            Ok(instance)
        }
        // What it is was found out before.
        _ => Ok(top),
    }
}
