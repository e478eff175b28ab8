//! Names and comments, as the reference plugins make them: by these, either finds what the other made.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha512};

/// Most characters of a chain's name.
const NAME_LENGTH: usize = 28;
/// Most bytes of a comment.
const COMMENT_LENGTH: usize = 255;

/// The chain of one attachment: `CNI-`, the use's prefix, and the beginning of a hash.
pub(crate) fn chain_name(prefix: &str, network: &str, container_id: &str) -> String {
    let hash = Sha512::new()
        .chain_update(network)
        .chain_update(container_id)
        .finalize();
    let mut name = format!("CNI-{prefix}{}", HEXLOWER.encode(&hash));
    name.truncate(NAME_LENGTH);
    name
}

/// The comment of an attachment's masquerading rules.
pub(crate) fn masquerade_comment(network: &str, container_id: &str) -> String {
    comment("name", network, container_id)
}

/// The comment of the rule that leads to an attachment's host ports.
pub(crate) fn dnat_comment(network: &str, container_id: &str) -> String {
    comment("dnat name", network, container_id)
}

fn comment(begin: &str, network: &str, container_id: &str) -> String {
    let mut text = format!("{begin}: \"{network}\" id: \"{container_id}\"");
    if text.len() > COMMENT_LENGTH {
        let mut end = COMMENT_LENGTH - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Network and container that a comment names; nothing when it is another kind of comment, or was cut.
pub(crate) fn owner_in(comment: &str) -> Option<(&str, &str)> {
    let rest = comment.strip_prefix("dnat ").unwrap_or(comment);
    let rest = rest.strip_prefix("name: \"")?;
    let (network, rest) = rest.rsplit_once("\" id: \"")?;
    Some((network, rest.strip_suffix('"')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_reference_plugins() {
        // From the reference's own tests.
        assert_eq!(
            chain_name("", "test", "1234"),
            "CNI-2bbe0c48b91a7d1b8a6753a8"
        );
        let container = "icee6giejonei6sohng6ahngee7laquohquee9shiGo7fohferakah3Feiyoolu2pei7ciPhoh7shaoX6vai3\
                         vuf0ahfaeng8yohb9ceu0daez5hashee8ooYai5wa3y";
        assert_eq!(
            chain_name("DN-", "testNetName", container),
            "CNI-DN-bfd599665540dd91d5d28"
        );
    }

    #[test]
    fn comments_name_their_owner() {
        let comment = dnat_comment("pods", "aa");
        assert_eq!(comment, r#"dnat name: "pods" id: "aa""#);
        assert_eq!(owner_in(&comment), Some(("pods", "aa")));
        let comment = masquerade_comment("a\" id: \"b", "cc");
        assert_eq!(owner_in(&comment), Some(("a\" id: \"b", "cc")));
        let long = dnat_comment(&"é".repeat(200), "aa");
        assert!(long.len() <= 255 && long.ends_with("..."), "{long}");
        assert_eq!(owner_in(&long), None);
        assert_eq!(owner_in("something else"), None);
    }
}
