//! JSON as Go's encoder writes it: compact, with `<`, `>`, `&` and the two Unicode line separators escaped.
//!
//! Readers accept any valid JSON; equal bytes keep the store's files comparable with those of other writers.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::io;

/// Encodes a value.
pub(crate) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(
        &mut bytes,
        GoFormatter(CompactFormatter),
    ))?;
    Ok(bytes)
}

struct GoFormatter(CompactFormatter);

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, from_special) = rest.split_at(at);
            let special = from_special.chars().next().unwrap_or_default();
            self.0.write_string_fragment(writer, plain)?;
            write!(writer, "\\u{:04x}", u32::from(special))?;
            rest = &from_special[special.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::to_vec;

    #[test]
    fn escapes_what_go_escapes_and_nothing_else() {
        let text = "a<b>&c\u{2028}\u{2029}\"\\/ü\n";
        let written = String::from_utf8(to_vec(&text).unwrap()).unwrap();
        assert_eq!(written, r#""a\u003cb\u003e\u0026c\u2028\u2029\"\\/ü\n""#);
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }
}
