//! Sizes in docker's units: `12 MiB`, `500KiB`, `1g`. The unit is always a power of 1024.

/// Parses a memory size into bytes, or gives `None` when the text is no size.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_length = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_length);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 1024_u64.checked_pow(exponent)?;
    let whole: u64 = whole.parse().ok()?;
    let mut bytes = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        let digits: u64 = fraction.parse().ok()?;
        let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        bytes += u128::from(digits) * u128::from(scale) / divisor;
    }
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn parses_docker_units() {
        for (text, bytes) in [
            ("12 MiB", Some(12 << 20)),
            ("500KiB", Some(500 << 10)),
            ("1g", Some(1 << 30)),
            ("1.5m", Some(3 << 19)),
            ("42", Some(42)),
            ("42b", Some(42)),
            ("", None),
            ("MiB", None),
            ("12 bananas", None),
            ("12 ib", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
