//! Sysctls of the calling thread's namespaces.

use std::path::PathBuf;

use crate::NamespaceError;

/// Where a key is below /proc/sys. Dots separate parts, except that a key with slashes uses dots as they are
/// (sysctl(8)): `net.ipv4.conf.eth0/1.forwarding` is written `net/ipv4/conf/eth0.1/forwarding`.
fn path(key: &str) -> Option<PathBuf> {
    let first = key.find(['.', '/']);
    let slashes = first.is_some_and(|at| key[at..].starts_with('/'));
    let relative: String = if slashes {
        key.to_owned()
    } else {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    };
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
    };
    relative
        .split('/')
        .all(plain)
        .then(|| PathBuf::from("/proc/sys").join(relative))
}

/// Sets a sysctl in the namespaces of the calling thread. The caller has checked that it belongs to one.
pub(crate) fn set(key: &str, value: &str) -> Result<(), NamespaceError> {
    let path = path(key).ok_or_else(|| NamespaceError::SysctlKey {
        key: key.to_owned(),
    })?;
    // No creation: what is not there is not a sysctl.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| {
            use std::io::Write as _;
            file.write_all(value.as_bytes())
        });
    written.map_err(|source| NamespaceError::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_proc_sys() {
        let at = |key: &str| path(key).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(
            at("net.ipv4.ip_forward").as_deref(),
            Some("/proc/sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            at("net/ipv4/conf/eth0.1/forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            at("net.ipv4.conf.eth0/1.forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        for bad in [
            "",
            "..",
            "/etc/passwd",
            "kernel/../../etc/passwd",
            "net..x",
            "a b",
            "kernel.x\n",
        ] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }
}
