//! Numbers of tar headers: octal text, or big-endian two's complement when the first bit is set.

/// Reads a numeric field. Empty is 0; `None` when it is no number or does not fit.
pub(super) fn parse(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

/// Reads a decimal number of an extension header.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit);
    if !plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    // Blanks and NULs may stand on either side.
    let pad = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !pad(byte))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(pad).unwrap_or(digits.len());
    if !digits[end..].iter().all(pad) {
        return None;
    }
    digits[..end]
        .iter()
        .try_fold(0_i64, |value, byte| match byte {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
            _ => None,
        })
}

fn binary(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (index, &byte) in field.iter().enumerate() {
        // The first bit only marks the encoding; the sign is the second.
        let byte = if index == 0 {
            if negative { byte | 0x80 } else { byte & 0x7f }
        } else {
            byte
        };
        value = (value << 8) | i128::from(byte);
        if i64::try_from(value).is_err() {
            return None;
        }
    }
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_binary_fields() {
        assert_eq!(parse(b"0000644\0"), Some(0o644));
        assert_eq!(parse(b"  12 \0"), Some(0o12));
        assert_eq!(parse(b"\0\0\0\0"), Some(0));
        assert_eq!(parse(b"12x4"), None);
        assert_eq!(parse(b"1 2"), None);
        assert_eq!(parse(&[0x80, 0, 0, 0, 1, 0, 0, 0, 0]), Some(1 << 32));
        assert_eq!(parse(&[0xff; 12]), Some(-1));
        assert_eq!(parse(&[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn decimals_are_strict() {
        assert_eq!(decimal(b"1234567890"), Some(1_234_567_890));
        for bad in [
            &b""[..],
            b"-1",
            b"+1",
            b"1 ",
            b"0x1",
            b"99999999999999999999",
        ] {
            assert_eq!(decimal(bad), None);
        }
    }
}
