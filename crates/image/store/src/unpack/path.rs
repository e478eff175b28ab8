//! Names of archive entries as paths inside the layer.

/// Most directories on the way to a file. Whoever walks the tree or removes it may need a descriptor for each.
pub(super) const MAX_DEPTH: usize = 500;

/// Splits a name into its components, resolving `.` and `..` by text, as upstream does. `None` when it leads out.
///
/// The root itself has no components. An absolute name is taken relative to the root.
pub(super) fn clean(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut components = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()?),
            other if other.contains(&0) => return None,
            other => components.push(other),
        }
    }
    Some(components)
}

#[cfg(test)]
mod tests {
    use super::clean;

    fn joined(name: &str) -> Option<String> {
        clean(name.as_bytes()).map(|parts| String::from_utf8(parts.join(&b'/')).unwrap())
    }

    #[test]
    fn names_are_cleaned_and_never_lead_out() {
        assert_eq!(joined("./usr//bin/./sh").unwrap(), "usr/bin/sh");
        assert_eq!(joined("/etc/passwd").unwrap(), "etc/passwd");
        assert_eq!(joined("a/../b").unwrap(), "b");
        assert_eq!(joined("./").unwrap(), "");
        for escape in ["..", "../x", "a/../../x", "/../x", "./.."] {
            assert_eq!(joined(escape), None, "{escape}");
        }
    }
}
