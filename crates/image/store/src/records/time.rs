//! Times as the records hold them: RFC 3339 in UTC with as many digits as needed.

use jiff::Timestamp;

/// The time now.
pub(crate) fn now() -> String {
    Timestamp::now().to_string()
}

/// A time from an image's config in the records' form. Go refuses the whole file for one malformed time, so a text that
/// is no time becomes the time now.
pub(crate) fn normalize_or_now(text: &str) -> String {
    text.parse::<Timestamp>()
        .map_or_else(|_| now(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::normalize_or_now;

    #[test]
    fn any_offset_becomes_utc_and_nonsense_becomes_now() {
        assert_eq!(
            normalize_or_now("2020-01-02T03:04:05.5+02:00"),
            "2020-01-02T01:04:05.5Z"
        );
        assert_eq!(
            normalize_or_now("0001-01-01T00:00:00Z"),
            "0001-01-01T00:00:00Z"
        );
        assert!(normalize_or_now("yesterday").starts_with("20"));
    }
}
