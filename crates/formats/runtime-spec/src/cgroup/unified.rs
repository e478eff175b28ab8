//! Raw cgroup v2 settings from the unified-cgroup annotation.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// An annotation value that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseUnifiedError {
    /// Not `file=value`.
    #[error("unified cgroup setting {setting:?} is not of the form file=value")]
    Format {
        /// The part of the annotation.
        setting: String,
    },
    /// Not the plain name of a file in a cgroup.
    #[error("unified cgroup setting {name:?} is not the name of a cgroup file")]
    Name {
        /// The name.
        name: String,
    },
}

/// Parses `file=value;file=value`; values may be base64, which lets them contain `;`.
///
/// A value counts as base64 only if it decodes to printable text, so that plain numbers are taken as they are.
///
/// # Errors
/// Fails for parts without `=` and for names that would leave the cgroup's directory.
pub fn parse(annotation: &str) -> Result<BTreeMap<String, String>, ParseUnifiedError> {
    let mut settings = BTreeMap::new();
    for setting in annotation.split(';').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| ParseUnifiedError::Format {
                setting: setting.to_owned(),
            })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(ParseUnifiedError::Name {
                name: name.to_owned(),
            });
        }
        settings.insert(
            name.to_owned(),
            decoded(value).unwrap_or_else(|| value.to_owned()),
        );
    }
    Ok(settings)
}

fn decoded(value: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let printable = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\n');
    (printable && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_values() {
        let settings =
            parse("memory.high=50000;pids.max=1000;memory.low=MTAwMDA=;cpu.max=max;").unwrap();
        let pairs: Vec<_> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("cpu.max", "max"),
                ("memory.high", "50000"),
                ("memory.low", "10000"),
                ("pids.max", "1000")
            ]
        );
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn files_elsewhere_are_refused() {
        assert_eq!(
            parse("memory.high"),
            Err(ParseUnifiedError::Format {
                setting: "memory.high".into()
            })
        );
        for name in ["../x=1", "a/b=1", "=1", ".x=1", "..=1"] {
            assert!(
                matches!(parse(name), Err(ParseUnifiedError::Name { .. })),
                "{name}"
            );
        }
    }
}
