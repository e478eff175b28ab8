//! registries.d: where the signatures of a registry's images are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::policy::registry_scopes;

/// A file larger than this is not read (bytes).
const MAX_FILE: u64 = 4 << 20;

/// The merged files of a registries.d.
#[derive(Debug, Clone, Default)]
pub struct SignaturePlaces {
    default: Option<Place>,
    registries: BTreeMap<String, Place>,
}

/// Why a registries.d could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadSignaturePlacesError {
    /// A file or the directory cannot be read.
    #[error("read `{}`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file is not YAML of the right shape, or says what another one says.
    #[error("registries.d file `{}`: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Where the signatures of one image are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignaturePlace {
    /// A URL with a directory per image.
    pub lookaside: Option<String>,
    /// Beside the image in its registry.
    pub attachments: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    default_docker: Option<Place>,
    docker: Option<BTreeMap<String, Place>>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Place {
    lookaside: String,
    /// For writing, which is not done here.
    lookaside_staging: String,
    /// The old name of `lookaside`.
    sigstore: String,
    sigstore_staging: String,
    use_sigstore_attachments: Option<bool>,
}

impl Place {
    fn lookaside(&self) -> Option<&str> {
        [&self.lookaside, &self.sigstore]
            .into_iter()
            .find(|url| !url.is_empty())
            .map(String::as_str)
    }
}

impl SignaturePlaces {
    /// Reads all `*.yaml` of a directory, which may be missing.
    pub fn load(directory: &Path) -> Result<Self, LoadSignaturePlacesError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadSignaturePlacesError::Read { path, source }
        };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(failed(directory)(e)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed(directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                paths.push(path);
            }
        }
        paths.sort();
        let mut places = Self::default();
        for path in paths {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(&path)
                .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
                .map_err(failed(&path))?;
            places
                .add(&text)
                .map_err(|reason| LoadSignaturePlacesError::Invalid { path, reason })?;
        }
        Ok(places)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: Option<File> = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        let file = file.unwrap_or_default();
        if let Some(place) = file.default_docker
            && self.default.replace(place).is_some()
        {
            return Err("`default-docker` is in another file already".to_owned());
        }
        for (name, place) in file.docker.unwrap_or_default() {
            if self.registries.contains_key(&name) {
                return Err(format!("`{name}` is in another file already"));
            }
            self.registries.insert(name, place);
        }
        Ok(())
    }

    /// Where the signatures of the image `reference` are. What the most specific scope does not say, wider ones may.
    #[must_use]
    pub fn find(&self, reference: &str) -> SignaturePlace {
        let scopes = registry_scopes(reference);
        let places: Vec<&Place> = scopes
            .iter()
            .filter_map(|scope| self.registries.get(scope))
            .chain(&self.default)
            .collect();
        SignaturePlace {
            lookaside: places
                .iter()
                .find_map(|place| place.lookaside().map(str::to_owned)),
            attachments: places
                .iter()
                .find_map(|place| place.use_sigstore_attachments)
                .unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_place_wins_and_others_complete_it() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        write(
            "default.yaml",
            "# comment\ndefault-docker:\n  sigstore: file:///var/lib/sigstore\n  lookaside-staging: file:///x\n",
        )
        .unwrap();
        write(
            "b.yaml",
            "docker:\n  quay.io/team:\n    lookaside: https://sig.example.com/s\n  quay.io:\n    use-sigstore-attachments: true\n",
        )
        .unwrap();
        write("empty.yaml", "\n").unwrap();
        write("ignored.txt", "{").unwrap();
        let places = SignaturePlaces::load(directory.path()).unwrap();
        let find = |reference: &str| {
            let place = places.find(reference);
            (place.lookaside.unwrap_or_default(), place.attachments)
        };
        assert_eq!(
            find("quay.io/team/app:1"),
            ("https://sig.example.com/s".to_owned(), true)
        );
        assert_eq!(
            find("quay.io/other:1"),
            ("file:///var/lib/sigstore".to_owned(), true)
        );
        assert_eq!(
            find("docker.io/library/x:1"),
            ("file:///var/lib/sigstore".to_owned(), false)
        );
        write("c.yaml", "docker:\n  quay.io: {}\n").unwrap();
        let error = SignaturePlaces::load(directory.path()).unwrap_err();
        assert!(error.to_string().contains("c.yaml"), "{error}");
        write("c.yaml", "docker:\n  quay.io: {lookasid: x}\n").unwrap();
        assert!(SignaturePlaces::load(directory.path()).is_err());
    }

    #[test]
    fn no_directory_is_no_places() {
        let places = SignaturePlaces::load(Path::new("/does/not/exist")).unwrap();
        assert_eq!(places.find("quay.io/x:1"), SignaturePlace::default());
    }
}
