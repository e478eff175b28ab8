//! Sizes as people write them.

/// The bytes of `10G`, `512 MiB` or `1000`; units are powers of 1024, as in all of containers/storage.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = unit.trim().trim_end_matches("ib").trim_end_matches('b');
    let factor = match unit {
        "" => 1_u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(number) => number.checked_mul(factor),
        Err(_) => {
            let number: f64 = number.parse().ok()?;
            // Exact for what has a fraction and fits.
            let bytes = number * factor as f64;
            (bytes < (1_u64 << 53) as f64).then_some(bytes as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("1000", 1000),
            ("10G", 10 << 30),
            ("10 GiB", 10 << 30),
            ("1.5kb", 1536),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "G", "1x", "-1", "1e3", "99999999P", "1.2.3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
