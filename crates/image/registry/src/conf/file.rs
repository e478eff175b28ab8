//! One registries.conf file: the TOML as written, checked and put into the shape of version 2.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::registry::{Mirror, MirrorUse, Registry, check_conflicts, trim_location};
use super::short_name::{self, ShortNameMode};
use super::{LoadRegistriesConfError, prefix};

/// One file's part of the configuration. `None` is "not mentioned".
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) registries: Vec<Registry>,
    pub(super) search: Option<Vec<String>>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) short_name_mode: Option<ShortNameMode>,
    pub(super) credential_helpers: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<RawRegistry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Version 1.
    registries: Option<RawVersion1>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    pull_from_mirror: Option<String>,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawVersion1 {
    search: Option<RawList>,
    insecure: Option<RawList>,
    block: Option<RawList>,
}

#[derive(Debug, Deserialize)]
struct RawList {
    #[serde(default)]
    registries: Vec<String>,
}

/// Names the file for every complaint about it.
struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn invalid(
        &self,
        key: impl Into<String>,
        reason: impl Into<String>,
    ) -> LoadRegistriesConfError {
        LoadRegistriesConfError::Invalid {
            path: self.path.to_owned(),
            key: key.into(),
            reason: reason.into(),
        }
    }
}

/// Parses a main file in either version.
pub(super) fn parse(path: &Path, text: &str) -> Result<Parsed, LoadRegistriesConfError> {
    let check = Checker { path };
    let raw = decode(path, text)?;
    let Some(old) = raw.registries else {
        return version_2(raw, &check);
    };
    if !raw.registry.is_empty()
        || raw.unqualified_search_registries.is_some()
        || !raw.aliases.is_empty()
    {
        return Err(check.invalid("registries", "versions 1 and 2 of the format are mixed"));
    }
    version_1(old, &check)
}

/// Parses a drop-in, which must be version 2.
pub(super) fn parse_drop_in(path: &Path, text: &str) -> Result<Parsed, LoadRegistriesConfError> {
    let check = Checker { path };
    let raw = decode(path, text)?;
    if raw.registries.is_some() {
        return Err(check.invalid("registries", "a drop-in must be in version 2 of the format"));
    }
    version_2(raw, &check)
}

fn decode(path: &Path, text: &str) -> Result<RawFile, LoadRegistriesConfError> {
    toml::from_str(text).map_err(|source| LoadRegistriesConfError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn version_2(raw: RawFile, check: &Checker<'_>) -> Result<Parsed, LoadRegistriesConfError> {
    let registries = raw
        .registry
        .into_iter()
        .enumerate()
        .map(|(index, registry)| registry.check(&format!("registry[{index}]"), check))
        .collect::<Result<Vec<_>, _>>()?;
    check_conflicts(&registries).map_err(|(key, reason)| check.invalid(key, reason))?;
    let search = raw
        .unqualified_search_registries
        .map(|list| search_list(&list, "unqualified-search-registries", check))
        .transpose()?;
    let short_name_mode = raw
        .short_name_mode
        .filter(|mode| !mode.is_empty())
        .map(|mode| {
            ShortNameMode::parse(&mode).ok_or_else(|| {
                let reason = format!("`{mode}` is none of enforcing, permissive, disabled");
                check.invalid("short-name-mode", reason)
            })
        })
        .transpose()?;
    for (name, target) in &raw.aliases {
        short_name::check_alias(name, target)
            .map_err(|reason| check.invalid(format!("aliases.{name}"), reason))?;
    }
    Ok(Parsed {
        registries,
        search,
        aliases: raw.aliases,
        short_name_mode,
        credential_helpers: raw.credential_helpers,
    })
}

fn version_1(old: RawVersion1, check: &Checker<'_>) -> Result<Parsed, LoadRegistriesConfError> {
    let list = |list: Option<RawList>| list.map(|l| l.registries).unwrap_or_default();
    let search = search_list(&list(old.search), "registries.search", check)?;
    let mut registries: Vec<Registry> = Vec::new();
    let marks = [
        ("registries.insecure", list(old.insecure)),
        ("registries.block", list(old.block)),
    ];
    for (key, names) in marks {
        for name in names {
            let location = trim_location(&name).map_err(|reason| check.invalid(key, reason))?;
            if location.is_empty() {
                return Err(check.invalid(key, "an empty registry name"));
            }
            let at = match registries.iter().position(|r| r.prefix == location) {
                Some(at) => at,
                None => {
                    registries.push(Registry::plain(location));
                    registries.len() - 1
                }
            };
            match key {
                "registries.insecure" => registries[at].insecure = true,
                _ => registries[at].blocked = true,
            }
        }
    }
    Ok(Parsed {
        registries,
        search: Some(search),
        ..Parsed::default()
    })
}

fn search_list(
    list: &[String],
    key: &str,
    check: &Checker<'_>,
) -> Result<Vec<String>, LoadRegistriesConfError> {
    list.iter()
        .map(|name| {
            let name = trim_location(name).map_err(|reason| check.invalid(key, reason))?;
            if name.is_empty() || name.starts_with("*.") {
                return Err(check.invalid(key, format!("`{name}` is not a registry")));
            }
            Ok(name)
        })
        .collect()
}

impl RawRegistry {
    fn check(self, at: &str, check: &Checker<'_>) -> Result<Registry, LoadRegistriesConfError> {
        let location = trim_location(&self.location)
            .map_err(|reason| check.invalid(format!("{at}.location"), reason))?;
        let mut prefix = trim_location(&self.prefix)
            .map_err(|reason| check.invalid(format!("{at}.prefix"), reason))?;
        if prefix.is_empty() {
            if location.is_empty() {
                return Err(check.invalid(
                    format!("{at}.location"),
                    "both location and prefix are unset",
                ));
            }
            prefix.clone_from(&location);
        }
        if let Some(reason) = prefix::flaw(&prefix) {
            return Err(check.invalid(format!("{at}.prefix"), reason));
        }
        if location.is_empty() && !prefix.starts_with("*.") {
            let reason = "location is unset and prefix is not in the form `*.example.com`";
            return Err(check.invalid(format!("{at}.location"), reason));
        }
        if location.contains('*') {
            return Err(check.invalid(format!("{at}.location"), "a wildcard is not a location"));
        }
        if self.pull_from_mirror.is_some() {
            return Err(check.invalid(
                format!("{at}.pull-from-mirror"),
                "only allowed in a mirror table",
            ));
        }
        let digest_only = self.mirror_by_digest_only;
        let mirrors = self
            .mirror
            .into_iter()
            .enumerate()
            .map(|(index, mirror)| {
                mirror.check(digest_only, &format!("{at}.mirror[{index}]"), check)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Registry {
            prefix,
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            mirrors,
        })
    }
}

impl RawMirror {
    fn check(
        self,
        digest_only: bool,
        at: &str,
        check: &Checker<'_>,
    ) -> Result<Mirror, LoadRegistriesConfError> {
        let location = trim_location(&self.location)
            .map_err(|reason| check.invalid(format!("{at}.location"), reason))?;
        if location.is_empty() {
            return Err(check.invalid(format!("{at}.location"), "a mirror needs a location"));
        }
        let key = || format!("{at}.pull-from-mirror");
        let serves = match self.pull_from_mirror.as_deref() {
            None | Some("") if digest_only => MirrorUse::DigestOnly,
            Some(value) if digest_only && !value.is_empty() => {
                return Err(check.invalid(
                    key(),
                    "mirror-by-digest-only is set for the registry as well",
                ));
            }
            None | Some("" | "all") => MirrorUse::All,
            Some("digest-only") => MirrorUse::DigestOnly,
            Some("tag-only") => MirrorUse::TagOnly,
            Some(value) => {
                return Err(check.invalid(
                    key(),
                    format!("`{value}` is none of all, digest-only, tag-only"),
                ));
            }
        };
        Ok(Mirror {
            location,
            insecure: self.insecure,
            serves,
        })
    }
}
