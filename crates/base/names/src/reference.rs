//! Image references: `[domain/]path[:tag][@digest]` (distribution's reference grammar).

use std::fmt;

use thiserror::Error;

use crate::Digest;

/// Longest repository name (domain and path) that registries accept.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Why a text is not an image reference.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ParseReferenceError {
    /// The rejected text, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A fully qualified, normalized image reference.
///
/// `busybox` becomes `docker.io/library/busybox:latest` by [`ImageReference::parse_docker_style`];
/// [`ImageReference::parse`] demands a domain. A reference with a digest keeps its tag for display but is resolved by
/// the digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A name without a registry: it needs registries.conf to become an [`ImageReference`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortName {
    /// Repository path, such as `busybox` or `library/busybox`.
    pub path: String,
    /// Tag, if given.
    pub tag: Option<String>,
    /// Digest, if given.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// Parses a reference whose first component is a registry (`localhost`, or has a dot or a port).
    ///
    /// # Errors
    /// [`ParseReferenceError`] when the grammar is violated or there is no registry.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        match Self::parse_or_short(text)? {
            Ok(reference) => Ok(reference),
            Err(_) => Err(error(text, "no registry is named")),
        }
    }

    /// Parses either a qualified reference (`Ok`) or a short name (`Err`), by the rule of containers/image: the first
    /// component is a registry if it has a `.` or `:` or is `localhost`.
    ///
    /// # Errors
    /// [`ParseReferenceError`] when the grammar is violated.
    pub fn parse_or_short(text: &str) -> Result<Result<Self, ShortName>, ParseReferenceError> {
        let (name, tag, digest) = split(text)?;
        match name.split_once('/') {
            Some((first, rest)) if is_domain_like(first) => {
                check_domain(text, first)?;
                let path = match (first, rest.contains('/')) {
                    ("docker.io" | "index.docker.io", false) => format!("library/{rest}"),
                    _ => rest.to_owned(),
                };
                let domain = if first == "index.docker.io" {
                    "docker.io"
                } else {
                    first
                };
                check_path(text, &path)?;
                Ok(Ok(Self {
                    domain: domain.to_owned(),
                    path,
                    tag,
                    digest,
                }))
            }
            _ => {
                check_path(text, name)?;
                if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(error(text, "64 hex digits are an image id, not a name"));
                }
                Ok(Err(ShortName {
                    path: name.to_owned(),
                    tag,
                    digest,
                }))
            }
        }
    }

    /// Parses like Docker does: short names belong to `docker.io`, single components to `library/`.
    ///
    /// # Errors
    /// [`ParseReferenceError`] when the grammar is violated.
    pub fn parse_docker_style(text: &str) -> Result<Self, ParseReferenceError> {
        Ok(match Self::parse_or_short(text)? {
            Ok(reference) => reference,
            Err(short) => short
                .qualify("docker.io")
                .map_err(|e| error(text, e.reason))?,
        })
    }

    /// Registry host, with port if any.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository path inside the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Tag as given; `None` does not mean `latest` when there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest as given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same with tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same without its tag if it has a digest: how containers/image treats `repo:tag@digest`.
    #[must_use]
    pub fn without_tag_if_digested(mut self) -> Self {
        if self.digest.is_some() {
            self.tag = None;
        }
        self
    }

    /// The same repository by digest only.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same tag and digest in another repository (`domain/path`), as prefix rewriting and mirrors need.
    ///
    /// # Errors
    /// [`ParseReferenceError`] if `repository` is not `domain/path`.
    pub fn with_repository(&self, repository: &str) -> Result<Self, ParseReferenceError> {
        let other = Self::parse(repository)?;
        Ok(Self {
            domain: other.domain,
            path: other.path,
            ..self.clone()
        })
    }
}

impl ShortName {
    /// The reference in the given registry (`docker.io` puts single components under `library/`).
    ///
    /// # Errors
    /// [`ParseReferenceError`] if `registry` is not a registry (with an optional path prefix).
    pub fn qualify(&self, registry: &str) -> Result<ImageReference, ParseReferenceError> {
        let mut reference = ImageReference::parse(&format!("{registry}/{}", self.path))?;
        reference.tag.clone_from(&self.tag);
        reference.digest.clone_from(&self.digest);
        Ok(reference)
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn error(text: &str, reason: &'static str) -> ParseReferenceError {
    ParseReferenceError {
        text: text.chars().take(300).collect(),
        reason,
    }
}

type Split<'a> = (&'a str, Option<String>, Option<Digest>);

fn split(text: &str) -> Result<Split<'_>, ParseReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(Digest::parse(digest).map_err(|_| error(text, "its digest is malformed"))?),
        ),
        None => (text, None),
    };
    let (name, tag) = match rest.rfind(':') {
        Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(&rest[colon + 1..])),
        _ => (rest, None),
    };
    if let Some(tag) = tag {
        let mut bytes = tag.bytes();
        let first_ok = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !first_ok
            || tag.len() > TAG_MAX
            || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        {
            return Err(error(text, "its tag is malformed"));
        }
    }
    if name.is_empty() {
        return Err(error(text, "it is empty"));
    }
    if name.len() > NAME_MAX {
        return Err(error(
            text,
            "the repository name is longer than 255 characters",
        ));
    }
    Ok((name, tag.map(str::to_owned), digest))
}

fn is_domain_like(component: &str) -> bool {
    component.contains(['.', ':'])
        || component == "localhost"
        || component.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(text: &str, domain: &str) -> Result<(), ParseReferenceError> {
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let (address, after) = rest
            .split_once(']')
            .ok_or_else(|| error(text, "the registry is malformed"))?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(error(text, "the registry is malformed"));
        }
        ("v6", after.strip_prefix(':'))
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        }
    };
    let host_ok = !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    let port_ok =
        port.is_none_or(|p| p.parse::<u16>().is_ok() && p.bytes().all(|b| b.is_ascii_digit()));
    if host_ok && port_ok {
        Ok(())
    } else {
        Err(error(text, "the registry is malformed"))
    }
}

fn check_path(text: &str, path: &str) -> Result<(), ParseReferenceError> {
    let ok = path.split('/').all(is_path_component);
    if ok {
        Ok(())
    } else {
        Err(error(
            text,
            "the repository path is malformed (lower-case letters, digits, and . _ __ - between them)",
        ))
    }
}

/// Alphanumeric runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = component.as_bytes();
    if bytes.is_empty() || !is_alphanumeric(bytes[0]) || !is_alphanumeric(bytes[bytes.len() - 1]) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
