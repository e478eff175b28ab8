//! Times as Go writes them: RFC 3339 with as many fractional digits as needed, and year 1 for "never".

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer};
use thiserror::Error;

/// Go's zero `time.Time`, which records use for "has not happened".
pub const ZERO_TEXT: &str = "0001-01-01T00:00:00Z";

/// A point in time, or `None` for Go's zero time.
pub type Moment = Option<Timestamp>;

/// A text that is not an RFC 3339 time.
#[derive(Debug, Error)]
#[error("cannot parse `{text}` as an RFC 3339 time")]
pub struct ParseTimeError {
    /// What was given.
    pub text: String,
    /// Why the parser refused it.
    pub source: jiff::Error,
}

/// Formats like Go's `time.RFC3339Nano` in UTC.
#[must_use]
pub fn format(moment: Moment) -> String {
    moment.map_or_else(|| ZERO_TEXT.to_owned(), |time| time.to_string())
}

/// Parses an RFC 3339 time with any offset; Go's zero time gives `None`.
///
/// # Errors
/// Fails if `text` is not a time.
pub fn parse(text: &str) -> Result<Moment, ParseTimeError> {
    if text == ZERO_TEXT {
        return Ok(None);
    }
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(Some(time)),
        Err(source) => Err(ParseTimeError {
            text: text.to_owned(),
            source,
        }),
    }
}

/// The moment so many nanoseconds after 1970; the zero time if it is out of range.
#[must_use]
pub fn from_unix_nanoseconds(nanoseconds: i64) -> Moment {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}

/// Nanoseconds since 1970 as CRI reports them; 0 when it has not happened.
#[must_use]
pub fn unix_nanoseconds(moment: Moment) -> i64 {
    moment.map_or(0, |time| {
        i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
    })
}

/// Serde of a [`Moment`] field (`#[serde(with = "go_time")]`).
///
/// # Errors
/// Passes on what the serializer reports.
pub fn serialize<S: Serializer>(moment: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*moment))
}

/// Serde of a [`Moment`] field (`#[serde(with = "go_time")]`).
///
/// # Errors
/// Fails if the value is not a string holding a time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trailing_zeros_are_dropped() {
        for text in [
            "2026-11-23T14:43:39.70430352Z",
            "2026-11-23T14:43:39Z",
            "2026-11-23T14:43:39.7Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn offsets_are_understood() {
        let local = parse("2026-11-23T15:43:39.5+01:00").unwrap();
        assert_eq!(format(local), "2026-11-23T14:43:39.5Z");
    }

    #[test]
    fn zero_is_no_moment() {
        assert_eq!(unix_nanoseconds(parse(ZERO_TEXT).unwrap()), 0);
        assert_eq!(
            unix_nanoseconds(parse("1970-01-01T00:00:01.000000002Z").unwrap()),
            1_000_000_002
        );
        assert!(
            parse("yesterday")
                .unwrap_err()
                .to_string()
                .contains("`yesterday`")
        );
    }

    proptest! {
        #[test]
        fn every_nanosecond_survives(nanoseconds in 0_i64..4_000_000_000_000_000_000) {
            let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap();
            let text = format(Some(time));
            prop_assert!(!text.contains("0Z") || !text.contains('.'));
            prop_assert_eq!(unix_nanoseconds(parse(&text).unwrap()), nanoseconds);
        }
    }
}
