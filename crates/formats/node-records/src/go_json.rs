//! JSON as Go's `encoding/json` writes it.
//!
//! Go escapes `<`, `>` and `&` as well as the line separators U+2028 and U+2029, and writes maps with sorted keys.
//! Records that are compared, hashed or diffed between daemons have to come out the same from both.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Compact formatting with Go's additional escapes.
#[derive(Debug, Default, Clone, Copy)]
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let character = special
                .chars()
                .next()
                .expect("find() returned the index of a character");
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &special[character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Writes `value` as one line without a trailing newline.
///
/// # Errors
/// Fails if `value`'s own serialization fails, for example for a map whose keys are not strings.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut buffer = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut buffer,
        GoFormatter,
    ))?;
    Ok(String::from_utf8(buffer).expect("serde_json writes UTF-8 only"))
}

/// Like [`to_string`], for our own record types, which hold nothing JSON cannot express.
pub(crate) fn record<T: Serialize + ?Sized>(value: &T) -> String {
    to_string(value).expect("records hold only strings, numbers and maps with string keys")
}

/// Writes `value` with the keys of every object sorted, so that hash maps come out the same each time.
///
/// # Errors
/// Fails if `value`'s own serialization fails.
pub fn to_sorted_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut tree = serde_json::to_value(value)?;
    tree.sort_all_objects();
    to_string(&tree)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        assert_eq!(
            to_string("a<b>&\u{2028}\u{2029}\"\\\n\t\u{1}\u{7f}é").unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\n\\t\\u0001\u{7f}é\""
        );
    }

    #[test]
    fn sorts_keys_at_every_depth() {
        let value = serde_json::json!({"b": {"z": 1, "a": [{"y": 1, "x": 2}]}, "a": null});
        assert_eq!(
            to_sorted_string(&value).unwrap(),
            r#"{"a":null,"b":{"a":[{"x":2,"y":1}],"z":1}}"#
        );
    }

    proptest! {
        #[test]
        fn any_string_survives(text in any::<String>()) {
            let written = to_string(&text).unwrap();
            let escaped = !written.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(escaped, "found a character Go escapes");
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
