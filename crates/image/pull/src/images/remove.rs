//! Removing images by id, and names by name.

use crioxide_names::ImageId;
use crioxide_store::ImageError;

use super::{Images, ImagesError};

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// There is no such image, so there was nothing to do.
    NotFound,
    /// The image has other names and only lost this one.
    Untagged {
        /// The name.
        name: String,
    },
    /// The image is gone.
    Deleted {
        /// Its id.
        id: String,
    },
}

impl Images {
    /// Removes the image that `name` means if it is an id or the image's last name; takes the name away otherwise.
    pub fn remove(&self, name: &str) -> Result<Removal, ImagesError> {
        let Some(found) = self.find(name)? else {
            return Ok(Removal::NotFound);
        };
        let id = found.record.id.clone();
        let removed = match found.name.map(|name| name.to_string()) {
            Some(name) if found.record.names.iter().any(|other| *other != name) => {
                let untagged = self.store().remove_name(&id, &name);
                untagged.map(|()| Removal::Untagged { name })
            }
            _ => self
                .store()
                .delete_image(&id)
                .map(|()| Removal::Deleted { id: id.clone() }),
        };
        self.contents().remove(&id);
        absent_is_done(removed)
    }

    /// Removes exactly that image with all its names.
    pub fn remove_id(&self, id: &ImageId) -> Result<Removal, ImagesError> {
        let deleted = self.store().delete_image(id.as_str());
        self.contents().remove(id.as_str());
        absent_is_done(deleted.map(|()| Removal::Deleted { id: id.to_string() }))
    }
}

/// Somebody else may have removed it meanwhile.
fn absent_is_done(removed: Result<Removal, ImageError>) -> Result<Removal, ImagesError> {
    match removed {
        Err(ImageError::Unknown { .. }) => Ok(Removal::NotFound),
        other => Ok(other?),
    }
}
