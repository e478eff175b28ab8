//! The version files that decide whether containers (reboot) or images (upgrade) are wiped.

use thiserror::Error;

/// A version file that does not hold a JSON string with a semantic version.
#[derive(Debug, Error)]
pub enum ParseVersionError {
    /// Not a JSON string.
    #[error("version file does not hold a JSON string")]
    Json {
        /// The parser's report.
        source: serde_json::Error,
    },
    /// Major and minor numbers are missing.
    #[error("`{text}` is not a semantic version")]
    Version {
        /// The string that was found.
        text: String,
    },
}

/// Major and minor number, which alone decide about wiping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedVersion {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
}

/// The file's content for `version`, with the commit as build metadata if known.
#[must_use]
pub fn content(version: &str, commit: Option<&str>) -> String {
    let full = commit.map_or_else(
        || version.to_owned(),
        |commit| format!("{version}+{commit}"),
    );
    crate::go_json::record(&full)
}

/// Reads a version file's content.
///
/// # Errors
/// Fails if the content is not a JSON string holding `major.minor.patch` with optional suffixes.
pub fn parse(content: &str) -> Result<RecordedVersion, ParseVersionError> {
    let text: String = serde_json::from_str(content.trim_end())
        .map_err(|source| ParseVersionError::Json { source })?;
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |at: usize| {
        numbers
            .get(at)
            .filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|part| part.parse::<u64>().ok())
    };
    match (number(0), number(1), number(2), numbers.len()) {
        (Some(major), Some(minor), Some(_), 3) => Ok(RecordedVersion { major, minor }),
        _ => Err(ParseVersionError::Version { text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(content("1.37.0", Some("0123abc")), "\"1.37.0+0123abc\"");
        assert_eq!(content("1.37.0", None), "\"1.37.0\"");
        assert_eq!(
            parse("\"1.37.0-dev+0123abc\"\n").unwrap(),
            RecordedVersion {
                major: 1,
                minor: 37
            }
        );
    }

    #[test]
    fn junk_is_refused() {
        for text in [
            "",
            "1.37.0",
            "\"\"",
            "\"1.37\"",
            "\"1.x.0\"",
            "\"+1.2.3\"",
            "\"1.2.3.4\"",
            "{}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
