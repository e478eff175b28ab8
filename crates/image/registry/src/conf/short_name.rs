//! Short names: `busybox` instead of `docker.io/library/busybox`.

use std::path::PathBuf;

use crioxide_names::{ImageReference, ParseReferenceError, ShortName};

use super::RegistriesConf;

/// How names without a registry are resolved when no alias decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShortNameMode {
    /// More than one search registry is an error, because nobody is there to choose.
    #[default]
    Enforcing,
    /// As disabled when nobody can be asked.
    Permissive,
    /// Every search registry is tried in order.
    Disabled,
}

impl ShortNameMode {
    /// Parses registries.conf's and crio.conf's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "enforcing" => Some(Self::Enforcing),
            "permissive" => Some(Self::Permissive),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }
}

/// Why a name has no candidates.
#[derive(Debug, thiserror::Error)]
pub enum CandidatesError {
    /// The name is no reference.
    #[error("parse image name `{name}`")]
    Parse {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
    /// Neither alias nor search registry.
    #[error(
        "short-name `{name}` did not resolve to an alias and no unqualified-search registries are defined in `{}`",
        file.display()
    )]
    NoSearchRegistries {
        /// The name as given.
        name: String,
        /// The file that could define them.
        file: PathBuf,
    },
    /// Several search registries in enforcing mode.
    #[error("short name mode is enforcing, but image name {name} returns ambiguous list: {}", candidates.join(", "))]
    Ambiguous {
        /// The name as given.
        name: String,
        /// What it could mean.
        candidates: Vec<String>,
    },
}

impl RegistriesConf {
    /// The full references that `name` may stand for, in the order to try them.
    ///
    /// A name with a registry is its own only candidate. Every candidate has a tag or a digest, never both.
    pub fn candidates(&self, name: &str) -> Result<Vec<ImageReference>, CandidatesError> {
        let failed = |source| CandidatesError::Parse {
            name: name.to_owned(),
            source,
        };
        let finish = |r: ImageReference| r.with_default_tag().without_tag_if_digested();
        let short = match ImageReference::parse_or_short(name).map_err(failed)? {
            Ok(reference) => return Ok(vec![finish(reference)]),
            Err(short) => short,
        };
        if let Some(alias) = self.aliases.get(&short.path) {
            tracing::debug!(name, target = alias.target, origin = %alias.origin.display(), "short name is an alias");
            return Ok(vec![finish(aliased(&alias.target, short).map_err(failed)?)]);
        }
        if self.search.is_empty() {
            return Err(CandidatesError::NoSearchRegistries {
                name: name.to_owned(),
                file: self.search_origin.clone(),
            });
        }
        let candidates = self
            .search
            .iter()
            .map(|registry| short.qualify(registry).map(finish).map_err(failed))
            .collect::<Result<Vec<_>, _>>()?;
        if candidates.len() > 1 && self.short_name_mode == ShortNameMode::Enforcing {
            return Err(CandidatesError::Ambiguous {
                name: name.to_owned(),
                candidates: candidates.iter().map(ToString::to_string).collect(),
            });
        }
        Ok(candidates)
    }
}

/// The repository `target` with the tag and digest of the short name.
fn aliased(target: &str, short: ShortName) -> Result<ImageReference, ParseReferenceError> {
    let (registry, path) = target.split_once('/').unwrap_or((target, ""));
    ShortName {
        path: path.to_owned(),
        ..short
    }
    .qualify(registry)
}

/// An alias maps a short name to a repository, neither with tag or digest.
pub(super) fn check_alias(name: &str, target: &str) -> Result<(), String> {
    match ImageReference::parse_or_short(name) {
        Err(e) => return Err(e.to_string()),
        Ok(Ok(_)) => return Err(format!("`{name}` names a registry and is no short name")),
        Ok(Err(short)) if short.tag.is_some() || short.digest.is_some() => {
            return Err(format!("short name `{name}` has a tag or digest"));
        }
        Ok(Err(_)) => {}
    }
    if target.is_empty() {
        return Ok(()); // takes the alias of an earlier file away
    }
    let reference = ImageReference::parse(target).map_err(|e| e.to_string())?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(format!("`{target}` has a tag or digest"));
    }
    Ok(())
}
