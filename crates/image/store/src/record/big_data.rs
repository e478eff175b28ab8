//! Big data: named blobs beside a record, each in a file of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crioxide_names::Digest;
use sha2::{Digest as _, Sha256};

/// The file name of a big data key.
///
/// A key of digits, lower-case letters and dots names its file itself; any other is `=` and its base64. The scan of the
/// original ends at the first other character and asks whether anything follows, so a key whose only such character is
/// its last stays as it is. Keys whose name would not be a single path component are refused with `None`.
pub fn big_data_file_name(key: &str) -> Option<String> {
    let other = key
        .bytes()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'.'));
    let name = match other {
        Some(at) if at + 1 < key.len() => format!("={}", STANDARD.encode(key)),
        _ => key.to_owned(),
    };
    let single_component = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
    single_component.then_some(name)
}

/// SHA-256 of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::big_data_file_name;

    #[test]
    fn keys_become_the_file_names_that_containers_storage_uses() {
        let name = |key| big_data_file_name(key).unwrap();
        assert_eq!(name("manifest"), "manifest");
        assert_eq!(
            name("zstd-chunked-manifest"),
            "=enN0ZC1jaHVua2VkLW1hbmlmZXN0"
        );
        assert!(name("sha256:2fa64b").starts_with("=c2hhMjU2Oj"));
        assert!(name("manifest-sha256:07c3").starts_with("=bWFuaWZlc3Qtc2hhMjU2Oj"));
        assert_eq!(name("odd-"), "odd-");
        assert_eq!(name("odd-k"), "=b2RkLWs=");
    }

    #[test]
    fn keys_that_would_leave_the_directory_are_refused() {
        for key in ["", ".", "..", "/", "???"] {
            assert!(
                big_data_file_name(key).is_none_or(|name| name.starts_with('=')),
                "{key}"
            );
        }
        assert!(big_data_file_name("a/").is_none());
    }
}
