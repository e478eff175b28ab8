//! Object ids: 64 lower-case hex digits.

use std::fmt;

use thiserror::Error;

/// A text that is not a full object id.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{text}` is not a {kind} id: expected 64 lower-case hex digits")]
pub struct ParseIdError {
    /// What kind of id was expected.
    pub kind: &'static str,
    /// The rejected text, cut to a printable length.
    pub text: String,
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn random_hex() -> String {
    use fmt::Write as _;
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers once the system is up");
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn generate() -> Self {
                Self(random_hex())
            }

            /// Accepts exactly 64 lower-case hex digits.
            ///
            /// # Errors
            /// [`ParseIdError`] for anything else.
            pub fn parse(text: &str) -> Result<Self, ParseIdError> {
                if is_id(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ParseIdError { kind: $kind, text: text.chars().take(80).collect() })
                }
            }

            /// The 64 digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, as command lines print ids.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A pod sandbox. Its infra container, real or not, has the same id.
    PodId, "pod"
);
id!(
    /// A container.
    ContainerId, "container"
);
id!(
    /// An image: hex digest of its config blob.
    ImageId, "image"
);
impl From<&PodId> for ContainerId {
    /// The infra container of a pod.
    fn from(pod: &PodId) -> Self {
        Self(pod.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse_and_differ() {
        let (a, b) = (PodId::generate(), PodId::generate());
        assert_ne!(a, b);
        assert_eq!(PodId::parse(a.as_str()), Ok(a.clone()));
        assert_eq!(a.short().len(), 12);
    }

    #[test]
    fn rejects_other_texts() {
        let upper = "A".repeat(64);
        let long = "a".repeat(65);
        for bad in [
            "",
            "abc",
            upper.as_str(),
            long.as_str(),
            "../../../../etc/passwd",
        ] {
            assert!(ContainerId::parse(bad).is_err(), "{bad}");
        }
    }
}
