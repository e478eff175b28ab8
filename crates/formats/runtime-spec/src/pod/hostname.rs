//! The host name of a pod.

use thiserror::Error;

/// Longest name the kernel takes, in bytes.
pub const MAX_HOSTNAME_LENGTH: usize = 64;

/// A host name that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HostnameError {
    /// Too long for the kernel.
    #[error("hostname `{hostname}` is longer than {MAX_HOSTNAME_LENGTH} bytes")]
    TooLong {
        /// The name.
        hostname: String,
    },
    /// Would break `/etc/hostname` or environment files.
    #[error("hostname {hostname:?} contains white space or control characters")]
    BadCharacter {
        /// The name.
        hostname: String,
    },
}

/// Which network the pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkScope {
    /// A network namespace of its own.
    Pod,
    /// The node's.
    Node,
}

/// The requested name, else the node's in its network, else the first 12 characters of the pod id.
///
/// # Errors
/// Fails for names that are too long or contain white space or control characters.
pub fn hostname(
    requested: &str,
    pod_id: &str,
    node_hostname: &str,
    network: NetworkScope,
) -> Result<String, HostnameError> {
    let name = match (requested, network) {
        ("", NetworkScope::Node) => node_hostname,
        ("", NetworkScope::Pod) => pod_id.get(..12).unwrap_or(pod_id),
        (requested, _) => requested,
    };
    if name.len() > MAX_HOSTNAME_LENGTH {
        return Err(HostnameError::TooLong {
            hostname: name.to_owned(),
        });
    }
    if name
        .chars()
        .any(|character| character.is_control() || character.is_whitespace())
    {
        return Err(HostnameError::BadCharacter {
            hostname: name.to_owned(),
        });
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requested_name_wins() {
        assert_eq!(
            hostname("web", "0123456789abcdef", "node", NetworkScope::Node).unwrap(),
            "web"
        );
        assert_eq!(
            hostname("", "0123456789abcdef", "node", NetworkScope::Node).unwrap(),
            "node"
        );
        assert_eq!(
            hostname("", "0123456789abcdef", "node", NetworkScope::Pod).unwrap(),
            "0123456789ab"
        );
    }

    #[test]
    fn injected_lines_are_refused() {
        for name in ["a\nb", "a\rb", "a\0b", "a b"] {
            assert!(
                matches!(
                    hostname(name, "id", "node", NetworkScope::Pod),
                    Err(HostnameError::BadCharacter { .. })
                ),
                "{name:?}"
            );
        }
        assert!(matches!(
            hostname(&"a".repeat(65), "id", "node", NetworkScope::Pod),
            Err(HostnameError::TooLong { .. })
        ));
    }
}
