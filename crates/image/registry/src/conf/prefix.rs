//! How a `[[registry]]` prefix matches a reference.

/// The length of the part of `reference` that `prefix` covers, if it matches at all.
///
/// A plain prefix ends where the reference ends or at `:`, `@` or `/`. `*.example.com` covers the
/// whole host of any subdomain.
pub(super) fn matched_len(reference: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(suffix) => {
            let host_end = reference.find('/').unwrap_or(reference.len());
            let at = reference[..host_end].rfind(suffix)?;
            at + suffix.len()
        }
        None => reference.starts_with(prefix).then_some(prefix.len())?,
    };
    match reference.as_bytes().get(end) {
        None | Some(b':' | b'@' | b'/') => Some(end),
        Some(_) => None,
    }
}

/// What is wrong with a prefix, if anything.
pub(super) fn flaw(prefix: &str) -> Option<&'static str> {
    let body = prefix.strip_prefix("*.").unwrap_or(prefix);
    if body.is_empty() {
        return Some("an empty prefix");
    }
    if body.contains('*') {
        return Some("a wildcard is only allowed as leading `*.`");
    }
    if body.len() != prefix.len() && body.contains('/') {
        return Some("a wildcard prefix is a host without a path");
    }
    None
}
