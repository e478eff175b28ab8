//! Reading single values out of the flat annotation map.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::keys;
use crate::go_time::{self, ParseTimeError};

/// Annotations a record cannot be restored from.
#[derive(Debug, Error)]
pub enum ParseAnnotationsError {
    /// Written by another tool.
    #[error("annotation `{key}` is `{value}`, not `{expected}`", key = keys::MANAGER, expected = keys::MANAGER_VALUE)]
    ForeignManager {
        /// The manager found; empty when absent.
        value: String,
    },
    /// A needed annotation is absent or empty.
    #[error("annotation `{key}` is missing or empty")]
    Missing {
        /// Name of the annotation.
        key: &'static str,
    },
    /// A value that is not the JSON expected.
    #[error("annotation `{key}` holds invalid JSON")]
    Json {
        /// Name of the annotation.
        key: &'static str,
        /// The parser's report.
        source: serde_json::Error,
    },
    /// A value that is not a time.
    #[error("annotation `{key}` holds no time")]
    Time {
        /// Name of the annotation.
        key: &'static str,
        /// The parser's report.
        source: ParseTimeError,
    },
    /// A field of the metadata that must not be empty.
    #[error("annotation `{key}` has no `{field}`", key = keys::METADATA)]
    MetadataField {
        /// Name of the JSON key.
        field: &'static str,
    },
}

/// A map of annotations while it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a BTreeMap<String, String>);

impl Reader<'_> {
    /// Refuses the records of other tools.
    pub(super) fn check_manager(self) -> Result<(), ParseAnnotationsError> {
        let value = self.text(keys::MANAGER);
        if value == keys::MANAGER_VALUE {
            Ok(())
        } else {
            Err(ParseAnnotationsError::ForeignManager { value })
        }
    }

    pub(super) fn optional(self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    pub(super) fn text(self, key: &str) -> String {
        self.optional(key).unwrap_or_default()
    }

    pub(super) fn required(self, key: &'static str) -> Result<String, ParseAnnotationsError> {
        self.optional(key)
            .filter(|value| !value.is_empty())
            .ok_or(ParseAnnotationsError::Missing { key })
    }

    pub(super) fn flag(self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| value == "true")
    }

    /// The value of `key`, or of its earlier spelling.
    pub(super) fn renamed(self, key: &str, earlier: &str) -> Option<String> {
        self.optional(key).or_else(|| self.optional(earlier))
    }

    /// A JSON value; absent, empty and `null` are the default, as in Go.
    pub(super) fn json<T: DeserializeOwned + Default>(
        self,
        key: &'static str,
    ) -> Result<T, ParseAnnotationsError> {
        parse_json(key, self.0.get(key).map(String::as_str))
    }

    pub(super) fn time(self, key: &'static str) -> Result<go_time::Moment, ParseAnnotationsError> {
        let Some(text) = self.0.get(key).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        go_time::parse(text).map_err(|source| ParseAnnotationsError::Time { key, source })
    }

    /// `IP.0`, `IP.1`, … up to the first gap.
    pub(super) fn ips(self) -> Vec<String> {
        (0..)
            .map_while(|number| self.0.get(&format!("{}{number}", keys::IP_PREFIX)).cloned())
            .collect()
    }
}

/// A JSON text; absent, empty and `null` are the default.
pub(super) fn parse_json<T: DeserializeOwned + Default>(
    key: &'static str,
    text: Option<&str>,
) -> Result<T, ParseAnnotationsError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(T::default());
    };
    let value: Option<T> =
        serde_json::from_str(text).map_err(|source| ParseAnnotationsError::Json { key, source })?;
    Ok(value.unwrap_or_default())
}

/// Adds `IP.0`, `IP.1`, ….
pub(super) fn insert_ips(map: &mut BTreeMap<String, String>, ips: &[String]) {
    for (number, ip) in ips.iter().enumerate() {
        map.insert(format!("{}{number}", keys::IP_PREFIX), ip.clone());
    }
}

/// What the request wants in the record, later maps winning, without the keys that are ours alone.
pub(super) fn requested<'a>(
    maps: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    maps.into_iter()
        .flatten()
        .filter(|(key, _)| !keys::is_internal(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
