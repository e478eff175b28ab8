//! Loading images from files and other stores: `oci:`, `oci-archive:`, `docker-archive:`, `dir:`, `containers-storage:`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crioxide_names::{Digest, ImageId, ImageReference};
use crioxide_registry::Transport;

use crate::error::PullError;
use crate::progress::{Audience, Progress};
use crate::puller::Puller;
use crate::source::{
    DirSource, DockerArchiveSource, OciLayoutSource, ReadSourceError, Source, StorageSource,
};
use crate::trust::Trust;

/// An image in a file, a directory or another store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileImage {
    /// How it is kept; never [`Transport::Docker`].
    pub transport: Transport,
    /// The directory or archive; of a store what it is called, `[driver@root+run]`.
    pub path: PathBuf,
    /// Which of several images.
    pub reference: Option<String>,
}

/// One wish to load an image.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The image.
    pub image: FileImage,
    /// Full or Docker-style names to give it; none means those that it brings along.
    pub names: Vec<String>,
    /// Hears how it goes.
    pub progress: Option<Arc<dyn Progress>>,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id in the store.
    pub id: ImageId,
    /// Digest of its manifest, or of the list it was chosen from.
    pub digest: Digest,
    /// The names it was given.
    pub names: Vec<ImageReference>,
}

impl FileImage {
    /// Parses `oci:path[:reference]` and so on; `None` if `text` names no such transport.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (transport, rest) = text.split_once(':')?;
        let transport = match transport {
            "oci" => Transport::Oci,
            "oci-archive" => Transport::OciArchive,
            "docker-archive" => Transport::DockerArchive,
            "dir" => Transport::Dir,
            "containers-storage" => Transport::ContainersStorage,
            _ => return None,
        };
        if transport == Transport::ContainersStorage {
            let (place, name) = rest.split_at(rest.find(']')? + 1);
            return (!name.is_empty()).then(|| Self {
                transport,
                path: place.into(),
                reference: Some(name.to_owned()),
            });
        }
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) if transport != Transport::Dir => {
                (path, Some(reference.to_owned()))
            }
            _ => (rest, None),
        };
        let reference = reference.filter(|reference| !reference.is_empty());
        (!path.is_empty()).then(|| Self {
            transport,
            path: path.into(),
            reference,
        })
    }

    fn open(&self, scratch: &Path) -> Result<Arc<dyn Source>, ReadSourceError> {
        let reference = self.reference.as_deref();
        Ok(match self.transport {
            Transport::Oci => Arc::new(OciLayoutSource::directory(&self.path, reference)?),
            Transport::OciArchive => {
                Arc::new(OciLayoutSource::archive(&self.path, reference, scratch)?)
            }
            Transport::DockerArchive => {
                Arc::new(DockerArchiveSource::open(&self.path, reference, scratch)?)
            }
            Transport::Dir => Arc::new(DirSource::new(&self.path)),
            Transport::ContainersStorage => {
                let place = self.path.to_string_lossy();
                Arc::new(StorageSource::open(&place, reference.unwrap_or_default())?)
            }
            Transport::Docker => {
                return Err(ReadSourceError::content(
                    &self.path,
                    "a registry is not a file",
                ));
            }
        })
    }
}

impl std::fmt::Display for FileImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport.name(), self.path.display())?;
        match &self.reference {
            Some(reference) if self.transport == Transport::ContainersStorage => {
                f.write_str(reference)
            }
            Some(reference) => write!(f, ":{reference}"),
            None => Ok(()),
        }
    }
}

impl Puller {
    /// Loads an image from files into the store.
    pub async fn load(&self, request: LoadRequest) -> Result<LoadedImage, PullError> {
        let inner = self.inner();
        let name = request.image.to_string();
        let mut names = Vec::new();
        for text in &request.names {
            let parsed =
                ImageReference::parse_docker_style(text).map_err(|source| PullError::Name {
                    name: name.clone(),
                    reference: text.clone(),
                    source,
                })?;
            names.push(parsed.with_default_tag().without_tag_if_digested());
        }
        let policy = inner.policy.load(None)?.map(Arc::new);
        let identity = policy_identity(&request.image);
        let trust = Trust::in_files(policy, request.image.transport, identity)?;
        let (image, scratch) = (request.image.clone(), inner.scratch.clone());
        let opened = tokio::task::spawn_blocking(move || image.open(&scratch)).await;
        let source = opened
            .map_err(|_| PullError::Lost {
                reference: name.clone(),
            })?
            .map_err(|source| PullError::OpenSource {
                name: name.clone(),
                source,
            })?;
        if names.is_empty() {
            names = source.embedded_names();
        }
        let audience = Arc::new(Audience::default());
        if let Some(progress) = request.progress {
            audience.join(progress);
        }
        let texts = names.iter().map(ToString::to_string).collect();
        let copied = inner.copier.copy(source, texts, audience, &trust).await;
        let copied = copied.map_err(|source| PullError::Load {
            name,
            source: Box::new(source),
        })?;
        Ok(LoadedImage {
            id: copied.id,
            digest: copied.digest,
            names,
        })
    }
}

/// Policies name files by absolute path without symbolic links.
fn policy_identity(image: &FileImage) -> String {
    if image.transport == Transport::ContainersStorage {
        let name = image.reference.as_deref().unwrap_or_default();
        return format!("{}{name}", image.path.display());
    }
    let path = image
        .path
        .canonicalize()
        .unwrap_or_else(|_| image.path.clone());
    match &image.reference {
        Some(reference) => format!("{}:{reference}", path.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_images_are_parsed() {
        for (text, transport, path, reference) in [
            ("oci:/a/b", Transport::Oci, "/a/b", None),
            (
                "oci:/a/b:quay.io/x:1",
                Transport::Oci,
                "/a/b",
                Some("quay.io/x:1"),
            ),
            ("oci-archive:x.tar:", Transport::OciArchive, "x.tar", None),
            (
                "docker-archive:x.tar:busybox",
                Transport::DockerArchive,
                "x.tar",
                Some("busybox"),
            ),
            ("dir:/a:b", Transport::Dir, "/a:b", None),
        ] {
            let image = FileImage::parse(text).unwrap();
            assert_eq!(
                (image.transport, image.path.to_str().unwrap()),
                (transport, path)
            );
            assert_eq!(image.reference.as_deref(), reference, "{text}");
        }
        let stored = FileImage::parse("containers-storage:[overlay@/a+/b]quay.io/x:1").unwrap();
        assert_eq!(stored.reference.as_deref(), Some("quay.io/x:1"));
        assert_eq!(
            stored.to_string(),
            "containers-storage:[overlay@/a+/b]quay.io/x:1"
        );
        assert_eq!(FileImage::parse("containers-storage:quay.io/x:1"), None);
        assert_eq!(FileImage::parse("quay.io/x:1"), None);
        assert_eq!(FileImage::parse("oci:"), None);
    }
}
