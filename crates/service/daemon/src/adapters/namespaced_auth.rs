//! Auth files that a plugin of the kubelet leaves for one pull: `<namespace>-<sha256 of the repository>.json`.

use std::path::{Path, PathBuf};

use crioxide_names::{Algorithm, ImageReference};
use crioxide_registry::ContentHasher;

/// Where a file goes while it is used.
const IN_USE: &str = "in-use";

/// An auth file that nobody else will use; it goes away with this value.
#[derive(Debug)]
pub(crate) struct NamespacedAuth {
    path: PathBuf,
}

impl NamespacedAuth {
    /// Takes the file for pulls of `image` by pods of `namespace`, if there is one.
    pub(crate) fn take(
        directory: &Path,
        namespace: &str,
        image: &str,
    ) -> std::io::Result<Option<Self>> {
        if namespace.is_empty() || namespace.contains(['/', '\0']) || namespace.starts_with('.') {
            return Ok(None);
        }
        for name in names(image) {
            let digest = ContentHasher::digest_of(Algorithm::Sha256, name.as_bytes());
            let file = format!("{namespace}-{}.json", digest.hex());
            let found = directory.join(&file);
            tracing::debug!(
                "Looking for namespaced auth JSON file in: {}",
                found.display()
            );
            if !found.exists() {
                continue;
            }
            let used = directory.join(IN_USE);
            std::fs::create_dir_all(&used)?;
            let path = used.join(format!("{}-{file}", crioxide_files::random_suffix()));
            match std::fs::rename(&found, &path) {
                Ok(()) => {
                    tracing::info!("Using auth file for namespace {namespace}");
                    return Ok(Some(Self { path }));
                }
                // Another pull has taken it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an earlier daemon was using when it ended.
    pub(crate) fn remove_leftovers(directory: &Path) {
        let used = directory.join(IN_USE);
        match std::fs::remove_dir_all(&used) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %used.display(), %error, "old auth files stay");
            }
            _ => {}
        }
    }
}

impl Drop for NamespacedAuth {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a used auth file stays");
        }
    }
}

/// The texts that the plugin may have hashed: the repository with its registry, or the image's name as it is.
fn names(image: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(reference) = ImageReference::parse_docker_style(image) {
        names.push(reference.repository());
    }
    names.push(image.to_owned());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_used_once_and_gone_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let digest = ContentHasher::digest_of(Algorithm::Sha256, name.as_bytes());
            directory.path().join(format!("team-{}.json", digest.hex()))
        };
        std::fs::write(file("docker.io/library/busybox"), "{}").unwrap();
        std::fs::write(file("quay.io/a/b:1"), "{}").unwrap();
        let take = |namespace: &str, image: &str| {
            NamespacedAuth::take(directory.path(), namespace, image).unwrap()
        };
        assert!(take("other", "busybox").is_none());
        assert!(take("../team", "busybox").is_none());
        let first = take("team", "busybox:1").unwrap();
        assert!(take("team", "busybox:1").is_none(), "it is in use");
        let path = first.path().to_owned();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
        drop(first);
        assert!(!path.exists() && !file("docker.io/library/busybox").exists());
        let second = take("team", "quay.io/a/b:1").unwrap();
        std::mem::forget(second);
        NamespacedAuth::remove_leftovers(directory.path());
        assert!(!directory.path().join(IN_USE).exists());
    }
}
