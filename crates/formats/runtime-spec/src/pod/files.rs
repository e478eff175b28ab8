//! Contents of the small files every pod gets.

use crioxide_cri_api::v1;
use thiserror::Error;

/// Content of `.containerenv`, by which tools recognise that they run in a container: it is empty.
pub const CONTAINERENV: &str = "";

/// A DNS value that would write additional lines.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("DNS {what} {value:?} contains white space or control characters")]
pub struct DnsValueError {
    /// `server`, `search` or `option`.
    pub what: &'static str,
    /// The value of the request.
    pub value: String,
}

/// Content of `/etc/resolv.conf`, or `None` if the node's file is to be copied because nothing was requested.
///
/// # Errors
/// Fails for values that would break out of their line.
pub fn resolv_conf(dns: Option<&v1::DnsConfig>) -> Result<Option<String>, DnsValueError> {
    let Some(dns) = dns.filter(|dns| {
        !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty())
    }) else {
        return Ok(None);
    };
    for (what, values) in [
        ("server", &dns.servers),
        ("search", &dns.searches),
        ("option", &dns.options),
    ] {
        if let Some(value) = values.iter().find(|value| {
            value
                .chars()
                .any(|character| character.is_control() || character.is_whitespace())
        }) {
            return Err(DnsValueError {
                what,
                value: value.clone(),
            });
        }
    }
    let mut content = String::new();
    if !dns.searches.is_empty() {
        content.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        content.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        content.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    Ok(Some(content))
}

/// Content of `/etc/hostname` for a name checked by [`crate::hostname::hostname`].
#[must_use]
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// Content of `/etc/hosts` for a container that is given none: the loopback names, and the pod by its host name.
#[must_use]
pub fn hosts(hostname: &str, ips: &[String]) -> String {
    let mut content =
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for ip in ips {
        content.push_str(&format!("{ip}\t{hostname}\n"));
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_the_recorded_order() {
        let dns = v1::DnsConfig {
            servers: vec!["10.96.0.10".into(), "10.96.0.11".into()],
            searches: vec![
                "default.svc.cluster.local".into(),
                "svc.cluster.local".into(),
            ],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(Some(&dns)).unwrap().unwrap(),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5\n"
        );
    }

    #[test]
    fn nothing_requested_means_the_nodes_file() {
        assert_eq!(resolv_conf(None).unwrap(), None);
        assert_eq!(resolv_conf(Some(&v1::DnsConfig::default())).unwrap(), None);
    }

    #[test]
    fn lines_cannot_be_injected() {
        let dns = v1::DnsConfig {
            searches: vec!["a\nnameserver 6.6.6.6".into()],
            ..v1::DnsConfig::default()
        };
        assert_eq!(resolv_conf(Some(&dns)).unwrap_err().what, "search");
    }

    #[test]
    fn hosts_names_the_pod() {
        let content = hosts("web", &["10.0.0.2".into(), "fd00::2".into()]);
        assert!(content.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(content.ends_with("10.0.0.2\tweb\nfd00::2\tweb\n"));
        assert_eq!(hosts("web", &[]).lines().count(), 2);
    }
}
