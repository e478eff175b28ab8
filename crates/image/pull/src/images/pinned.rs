//! Images that garbage collection must leave alone.

use super::ImageInfo;

/// Patterns of pinned images: a full name, `prefix*`, or `*keyword*`; upper and lower case are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinnedImages {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Keyword(String),
}

impl PinnedImages {
    /// Parses patterns; empty ones match nothing.
    #[must_use]
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = patterns
            .into_iter()
            .map(str::trim)
            .filter(|pattern| !pattern.is_empty());
        Self {
            patterns: patterns.map(Pattern::parse).collect(),
        }
    }

    /// Whether any name of the image is pinned.
    #[must_use]
    pub fn contains(&self, image: &ImageInfo) -> bool {
        image
            .repo_tags
            .iter()
            .chain(&image.repo_digests)
            .any(|name| self.matches(name))
    }

    /// Whether a name is pinned.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => name == *exact,
            Pattern::Prefix(prefix) => name.starts_with(prefix),
            Pattern::Keyword(keyword) => name.contains(keyword),
        })
    }
}

impl Pattern {
    fn parse(pattern: &str) -> Self {
        let pattern = pattern.to_lowercase();
        match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(_), Some(_)) => Self::Keyword(pattern.trim_matches('*').to_owned()),
            (None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            _ => Self::Exact(pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let pinned = PinnedImages::new([
            "registry.k8s.io/pause:3.10.1",
            "quay.io/Crio/*",
            "*etcd*",
            "",
        ]);
        for (name, expected) in [
            ("registry.k8s.io/pause:3.10.1", true),
            ("registry.k8s.io/pause:3.10.10", false),
            ("quay.io/crio/x:1", true),
            ("docker.io/quay.io/crio/x:1", false),
            ("docker.io/bitnami/ETCD:3", true),
            ("docker.io/library/busybox:latest", false),
        ] {
            assert_eq!(pinned.matches(name), expected, "{name}");
        }
    }
}
