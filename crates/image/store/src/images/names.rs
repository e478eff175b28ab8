//! Names of images. A name belongs to one image; who gets it takes it from the one that had it.

use super::ImageError;
use crate::Store;
use crate::record::ImageRecord;

impl Store {
    /// Gives an image more names.
    pub fn add_names(&self, id: &str, names: &[String]) -> Result<(), ImageError> {
        self.change_image(id, |image| add(image, names))
    }

    /// Replaces all names of an image.
    pub fn set_names(&self, id: &str, names: &[String]) -> Result<(), ImageError> {
        self.change_image(id, |image| {
            image.names.clear();
            add(image, names);
        })
    }

    /// Takes a name from an image; the image stays, even without any name.
    pub fn remove_name(&self, id: &str, name: &str) -> Result<(), ImageError> {
        self.change_image(id, |image| image.names.retain(|own| own != name))
    }

    fn change_image(
        &self,
        id: &str,
        change: impl FnOnce(&mut ImageRecord),
    ) -> Result<(), ImageError> {
        let mut images = self.images.write()?;
        let Some(image) = images.table().get(id) else {
            for foreign in &self.foreign {
                if foreign.images.read()?.get(id).is_some() {
                    return Err(ImageError::ReadOnly {
                        image: id.to_owned(),
                    });
                }
            }
            return Err(ImageError::Unknown {
                lookup: id.to_owned(),
            });
        };
        let mut image = (**image).clone();
        change(&mut image);
        images.replace(image)?;
        Ok(images.save()?)
    }
}

/// Adds names to a record, newest first in its history.
pub(super) fn add(image: &mut ImageRecord, names: &[String]) {
    for name in names {
        if !image.names.contains(name) {
            image.names.push(name.clone());
        }
        image.names_history.retain(|known| known != name);
        image.names_history.insert(0, name.clone());
    }
}
