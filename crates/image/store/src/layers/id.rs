//! Layer ids and how they follow from content.

use crioxide_names::Digest;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The id of a layer: 64 lower-case hex digits, so always a safe file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(String);

/// A text that is not a layer id.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("`{text}` is not a layer id: expected 64 lower-case hex digits")]
pub struct ParseLayerIdError {
    /// The rejected text, cut to a printable length.
    pub text: String,
}

impl LayerId {
    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, ParseLayerIdError> {
        if is_hex_id(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseLayerIdError {
                text: text.chars().take(80).collect(),
            })
        }
    }

    /// A new random id.
    pub fn generate() -> Self {
        use crioxide_files::random_suffix;
        Self([(); 4].map(|()| random_suffix()).concat())
    }

    /// The id of the layer with content `diff_id` on top of `parent`.
    ///
    /// For a base layer it is the digest itself; above, a digest over parent id and content. Equal stacks of layers get
    /// equal ids and are stored once. This is not the chain id of the OCI image specification.
    pub fn of_content(parent: Option<&LayerId>, diff_id: &Digest) -> Self {
        match parent {
            // A SHA-512 digest is twice as long as an id: only a SHA-256 one can be the id itself.
            None if diff_id.hex().len() == 64 => Self(diff_id.hex().to_owned()),
            None => Self::hashed("", diff_id.hex()),
            Some(parent) => Self::hashed(&parent.0, diff_id.hex()),
        }
    }

    /// The id of a layer known by the digest of its table of contents only (partial pulls).
    pub fn of_toc(parent: Option<&LayerId>, toc: &Digest) -> Self {
        Self::hashed(
            parent.map_or("", |parent| &parent.0),
            &format!("@TOC={}", toc.hex()),
        )
    }

    /// The 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn hashed(parent: &str, component: &str) -> Self {
        let digest = Digest::from_sha256(&Sha256::digest(format!("{parent}+{component}")).into());
        Self(digest.hex().to_owned())
    }
}

/// Whether `text` has the form of every id in a store.
pub(crate) fn is_hex_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for LayerId {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_content() {
        let diff = |digit: char| {
            Digest::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
        };
        let base = LayerId::of_content(None, &diff('a'));
        assert_eq!(base.as_str(), "a".repeat(64));
        // sha256 of 64 times "a", "+", 64 times "b".
        let expected = Sha256::digest(format!("{}+{}", "a".repeat(64), "b".repeat(64)));
        let expected = Digest::from_sha256(&expected.into());
        assert_eq!(
            LayerId::of_content(Some(&base), &diff('b')).as_str(),
            expected.hex()
        );
        assert_ne!(LayerId::of_toc(None, &diff('a')).as_str(), "a".repeat(64));
    }

    #[test]
    fn only_full_ids_parse() {
        assert!(LayerId::parse(LayerId::generate().as_str()).is_ok());
        assert!(LayerId::parse("../../etc").is_err());
        assert!(LayerId::parse(&"A".repeat(64)).is_err());
    }
}
