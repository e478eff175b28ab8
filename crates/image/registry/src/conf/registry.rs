//! One `[[registry]]` table and its mirrors.

use super::prefix;

/// A namespace of references and where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// References that this applies to: a host, a host with a path, or `*.example.com`.
    pub prefix: String,
    /// What replaces the prefix; empty (only with a wildcard) leaves references as they are.
    pub location: String,
    /// Allow plain HTTP and unverified TLS.
    pub insecure: bool,
    /// Refuse every pull.
    pub blocked: bool,
    /// Tried in order before the registry itself.
    pub mirrors: Vec<Mirror>,
}

/// Another place that has the same images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What replaces the registry's prefix.
    pub location: String,
    /// Allow plain HTTP and unverified TLS.
    pub insecure: bool,
    /// Which references it is asked for.
    pub serves: MirrorUse,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorUse {
    /// Every reference.
    All,
    /// References with a digest.
    DigestOnly,
    /// References without a digest.
    TagOnly,
}

impl Registry {
    /// A registry that is just where its name says.
    pub(super) fn plain(location: String) -> Self {
        Self {
            prefix: location.clone(),
            location,
            insecure: false,
            blocked: false,
            mirrors: Vec::new(),
        }
    }

    /// How much of `reference` the prefix covers.
    pub(super) fn matched_len(&self, reference: &str) -> Option<usize> {
        prefix::matched_len(reference, &self.prefix)
    }
}

/// A location without trailing slashes; an URL is refused.
pub(super) fn trim_location(location: &str) -> Result<String, String> {
    let trimmed = location.trim_end_matches('/');
    if trimmed.starts_with("http://") || trimmed.starts_with("https://") {
        return Err(format!("`{trimmed}` is an URL, but a host is wanted"));
    }
    Ok(trimmed.to_owned())
}

/// Tables with one location must agree about how to talk to it.
pub(super) fn check_conflicts(registries: &[Registry]) -> Result<(), (String, String)> {
    for (index, registry) in registries.iter().enumerate() {
        for earlier in &registries[..index] {
            if !registry.location.is_empty() && earlier.location == registry.location {
                let location = &registry.location;
                let conflict = |key: &str| {
                    let reason =
                        format!("registry `{location}` is defined twice with different values");
                    Err((format!("registry[{index}].{key}"), reason))
                };
                if earlier.insecure != registry.insecure {
                    return conflict("insecure");
                }
                if earlier.blocked != registry.blocked {
                    return conflict("blocked");
                }
            }
        }
    }
    Ok(())
}
