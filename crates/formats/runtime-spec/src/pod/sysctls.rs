//! Kernel parameters of a pod.
//!
//! Only parameters of a namespace the pod owns may be set; anything else would change the node.

use std::collections::BTreeMap;

use thiserror::Error;

/// Which namespaces the pod shares with the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedNamespaces {
    /// The node's network.
    pub network: bool,
    /// The node's IPC objects.
    pub ipc: bool,
}

/// What may be set, and what was left out and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectedSysctls {
    /// Names with dots, and values.
    pub values: BTreeMap<String, String>,
    /// One sentence for each one skipped.
    pub warnings: Vec<String>,
}

/// Why a parameter cannot be set for a pod.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SysctlError {
    /// Not `key=value`.
    #[error("sysctl `{text}` is not in key=value format")]
    Format {
        /// The text.
        text: String,
    },
    /// Blanks around key or value.
    #[error("sysctl `{text}` has blanks around key or value")]
    Blanks {
        /// The text.
        text: String,
    },
    /// Characters no parameter has.
    #[error("sysctl {key:?} is not a valid name")]
    Name {
        /// The name.
        key: String,
    },
    /// A value of more than one line.
    #[error("value of sysctl `{key}` contains control characters")]
    Value {
        /// The name.
        key: String,
    },
    /// A parameter of the whole node.
    #[error("sysctl `{key}` is not namespaced")]
    NotNamespaced {
        /// The name.
        key: String,
    },
    /// A parameter of a namespace that is the node's.
    #[error("sysctl `{key}` is not allowed with the host's {namespace} namespace")]
    HostNamespace {
        /// The name.
        key: String,
        /// `network` or `ipc`.
        namespace: &'static str,
    },
}

const IPC_NAMES: [&str; 8] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
];

/// Parses a configured `key=value`.
///
/// # Errors
/// Fails for texts without `=`, or with blanks around the parts.
pub fn parse(text: &str) -> Result<(String, String), SysctlError> {
    let (key, value) = text.split_once('=').ok_or_else(|| SysctlError::Format {
        text: text.to_owned(),
    })?;
    if key.trim() != key || value.trim() != value {
        return Err(SysctlError::Blanks {
            text: text.to_owned(),
        });
    }
    if key.is_empty() {
        return Err(SysctlError::Format {
            text: text.to_owned(),
        });
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Checks one parameter for a pod and gives its name with dots.
///
/// # Errors
/// Fails if the name or value is malformed, or if setting it would reach beyond the pod.
pub fn check(key: &str, value: &str, shared: SharedNamespaces) -> Result<String, SysctlError> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    let name = normalize(key);
    let broken = name
        .split('.')
        .any(|part| part.bytes().all(|byte| byte == b'/'));
    if key.is_empty() || broken || !key.bytes().all(plain) || name.contains("..") {
        return Err(SysctlError::Name {
            key: key.to_owned(),
        });
    }
    if value
        .chars()
        .any(|character| character.is_control() && character != '\t')
    {
        return Err(SysctlError::Value {
            key: key.to_owned(),
        });
    }
    let host = |namespace| SysctlError::HostNamespace {
        key: key.to_owned(),
        namespace,
    };
    if name.starts_with("net.") {
        return if shared.network {
            Err(host("network"))
        } else {
            Ok(name)
        };
    }
    if IPC_NAMES.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
        return if shared.ipc {
            Err(host("ipc"))
        } else {
            Ok(name)
        };
    }
    Err(SysctlError::NotNamespaced {
        key: key.to_owned(),
    })
}

/// Chooses what to set from the configured defaults and the pod's request; the request wins, unsuitable ones are skipped.
pub fn select<'a>(
    defaults: impl IntoIterator<Item = (&'a str, &'a str)>,
    requested: impl IntoIterator<Item = (&'a str, &'a str)>,
    shared: SharedNamespaces,
) -> SelectedSysctls {
    let mut selected = SelectedSysctls::default();
    for (key, value) in defaults.into_iter().chain(requested) {
        match check(key, value, shared) {
            Ok(name) => {
                selected.values.insert(name, value.to_owned());
            }
            Err(error) => selected.warnings.push(format!("skipped: {error}")),
        }
    }
    selected.warnings.sort();
    selected
}

/// With `/` as first separator, the form is a path and its dots belong to interface names.
fn normalize(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'/' => key
            .chars()
            .map(|character| match character {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: SharedNamespaces = SharedNamespaces {
        network: false,
        ipc: false,
    };
    const HOST: SharedNamespaces = SharedNamespaces {
        network: true,
        ipc: true,
    };

    #[test]
    fn namespaces_decide() {
        for key in [
            "net.ipv4.ip_forward",
            "net/ipv4/ip_forward",
            "kernel.shm_rmid_forced",
            "kernel.sem",
            "fs.mqueue.msg_max",
            "net.ipv4.conf.eth0/1.rp_filter",
        ] {
            assert!(check(key, "1", OWN).is_ok(), "{key}");
            assert!(
                matches!(
                    check(key, "1", HOST),
                    Err(SysctlError::HostNamespace { .. })
                ),
                "{key}"
            );
        }
        let network_only = SharedNamespaces {
            network: true,
            ipc: false,
        };
        assert!(check("kernel.sem", "1", network_only).is_ok());
        assert!(check("net.core.somaxconn", "1", network_only).is_err());
    }

    #[test]
    fn the_node_is_out_of_reach() {
        for key in [
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "net",
            "kernel",
            "kernel.semx",
            "net.",
            ".net.x",
            "net..x",
            "net/../kernel/core_pattern",
            "net.ipv4/../../kernel",
            "net.x=1",
            "net.x y",
            "",
        ] {
            assert!(check(key, "1", OWN).is_err(), "{key}");
        }
        for value in ["1\nkernel.core_pattern=|/x", "\0", "1\r"] {
            assert!(
                matches!(check("net.x.y", value, OWN), Err(SysctlError::Value { .. })),
                "{value:?}"
            );
        }
        assert!(check("kernel.sem", "250\t32000\t32\t128", OWN).is_ok());
    }

    #[test]
    fn unsuitable_ones_are_skipped_with_a_reason() {
        let selected = select(
            [("net.a.b", "1"), ("vm.x", "1")],
            [("net.a.b", "2"), ("kernel.sem", "3")],
            SharedNamespaces {
                network: false,
                ipc: true,
            },
        );
        assert_eq!(
            selected.values,
            BTreeMap::from([("net.a.b".to_owned(), "2".to_owned())])
        );
        assert_eq!(selected.warnings.len(), 2);
        assert!(
            selected.warnings[0].contains("`kernel.sem`")
                && selected.warnings[1].contains("`vm.x`")
        );
    }

    #[test]
    fn configured_texts() {
        assert_eq!(parse("net.a=1=2").unwrap(), ("net.a".into(), "1=2".into()));
        assert!(matches!(
            parse("net.a = 1"),
            Err(SysctlError::Blanks { .. })
        ));
        assert!(matches!(parse("net.a"), Err(SysctlError::Format { .. })));
        assert!(matches!(parse("=1"), Err(SysctlError::Format { .. })));
    }

    proptest! {
        #[test]
        fn accepted_names_stay_below_their_tree(key in "(net|kernel|fs)?[./a-z+=]{0,16}") {
            if let Ok(name) = check(&key, "1", OWN) {
                let path = name.replace('/', "\u{1}").replace('.', "/").replace('\u{1}', ".");
                prop_assert!(path.starts_with("net/") || path.starts_with("kernel/s") || path.starts_with("kernel/m") || path.starts_with("fs/mqueue/"));
                prop_assert!(path.split('/').all(|part| part != ".."));
            }
        }
    }
}
