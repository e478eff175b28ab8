//! Who needs which image while nothing on disk says so yet.
//!
//! A container that exists names its images in its record. One that is being made claims them here, and so does a
//! removal, so that of the two only one goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

/// The claims of a node.
#[derive(Debug, Default)]
pub(crate) struct ImageClaims(Mutex<Claims>);

#[derive(Debug, Default)]
struct Claims {
    /// Containers being made, by image.
    users: BTreeMap<String, Vec<String>>,
    removals: BTreeSet<String>,
}

/// An image that a container being made needs; given up on drop.
#[derive(Debug)]
pub(crate) struct ImageUse {
    claims: Arc<ImageClaims>,
    image: String,
    user: String,
}

/// An image that is being removed; given up on drop.
#[derive(Debug)]
pub struct ImageRemoval {
    claims: Arc<ImageClaims>,
    image: String,
}

impl ImageClaims {
    /// `None` while the image is being removed.
    pub(crate) fn use_image(self: &Arc<Self>, image: &str, user: &str) -> Option<ImageUse> {
        let mut claims = self.lock();
        if claims.removals.contains(image) {
            return None;
        }
        let users = claims.users.entry(image.to_owned()).or_default();
        users.push(user.to_owned());
        Some(ImageUse {
            claims: self.clone(),
            image: image.to_owned(),
            user: user.to_owned(),
        })
    }

    /// Claims the image for its removal, unless a container being made or one that `recorded` finds needs it.
    ///
    /// # Errors
    /// Who needs it.
    pub(crate) fn remove_image(
        self: &Arc<Self>,
        image: &str,
        recorded: impl FnOnce() -> Option<String>,
    ) -> Result<ImageRemoval, String> {
        let mut claims = self.lock();
        // In this order: a container gives up its claim when its record can be found.
        let user = claims.users.get(image).and_then(|users| users.first());
        if let Some(user) = user.cloned().or_else(recorded) {
            return Err(user);
        }
        claims.removals.insert(image.to_owned());
        Ok(ImageRemoval {
            claims: self.clone(),
            image: image.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Drop for ImageUse {
    fn drop(&mut self) {
        let mut claims = self.claims.lock();
        let Some(users) = claims.users.get_mut(&self.image) else {
            return;
        };
        if let Some(at) = users.iter().position(|user| *user == self.user) {
            users.swap_remove(at);
        }
        if users.is_empty() {
            claims.users.remove(&self.image);
        }
    }
}

impl Drop for ImageRemoval {
    fn drop(&mut self) {
        self.claims.lock().removals.remove(&self.image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_and_a_removal_exclude_each_other() {
        let claims = Arc::new(ImageClaims::default());
        let (first, second) = (
            claims.use_image("i", "a").unwrap(),
            claims.use_image("i", "b").unwrap(),
        );
        assert_eq!(claims.remove_image("i", || None).unwrap_err(), "a");
        drop(first);
        assert_eq!(claims.remove_image("i", || None).unwrap_err(), "b");
        drop(second);
        let recorded = || Some("c".to_owned());
        assert_eq!(claims.remove_image("i", recorded).unwrap_err(), "c");
        let removal = claims.remove_image("i", || None).unwrap();
        assert!(claims.use_image("i", "d").is_none());
        assert!(claims.use_image("other", "d").is_some());
        drop(removal);
        assert!(claims.use_image("i", "d").is_some());
    }
}
