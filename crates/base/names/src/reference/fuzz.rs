//! References of all shapes: what is read is written the same, and nothing breaks the reader.

use super::ImageReference;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(text in "[a-zA-Z0-9._/:@\\[\\]-]{0,80}|\\PC{0,40}") {
        let readings = [
            ImageReference::parse(&text),
            ImageReference::parse_docker_style(&text),
        ];
        for reference in readings.into_iter().flatten() {
            let written = reference.to_string();
            let again = ImageReference::parse(&written);
            prop_assert_eq!(again.as_ref(), Ok(&reference), "{}", written);
            prop_assert!(!written.contains("..") && !written.contains("//"));
        }
        let _ = ImageReference::parse_or_short(&text);
    }

    #[test]
    fn good_names_are_read(
        host in "[a-z0-9]{1,9}\\.[a-z]{2,3}(:[1-9][0-9]{1,3})?",
        path in "[a-z0-9]{1,9}([._/-][a-z0-9]{1,9}){0,4}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        let text = format!("{host}/{path}:{tag}");
        prop_assert_eq!(ImageReference::parse(&text).unwrap().to_string(), text);
    }
}
