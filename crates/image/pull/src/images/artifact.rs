//! Artifacts, by the names that images have.

use super::{Images, ImagesError};
use crate::artifacts::{ArtifactFile, ArtifactInfo};

impl Images {
    /// All artifacts.
    pub fn artifacts(&self) -> Result<Vec<ArtifactInfo>, ImagesError> {
        Ok(self.inner.artifacts.list()?)
    }

    /// The artifact that `name` means: an id or at least 3 digits of one, a digest, a full or a short name.
    pub fn artifact(&self, name: &str) -> Result<Option<ArtifactInfo>, ImagesError> {
        let candidates = self.candidates(name).unwrap_or_default();
        Ok(self.inner.artifacts.status(name, &candidates)?)
    }

    /// The artifact that `name` means, with the files that it has for containers.
    pub fn artifact_files(
        &self,
        name: &str,
    ) -> Result<Option<(ArtifactInfo, Vec<ArtifactFile>)>, ImagesError> {
        let Some(info) = self.artifact(name)? else {
            return Ok(None);
        };
        let files = self.inner.artifacts.files(&info)?;
        Ok(Some((info, files)))
    }

    /// Removes the artifact that `name` means; says whether there was one.
    pub fn remove_artifact(&self, name: &str) -> Result<bool, ImagesError> {
        let candidates = self.candidates(name).unwrap_or_default();
        Ok(self.inner.artifacts.remove(name, &candidates)?)
    }
}
