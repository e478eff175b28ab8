//! One line before it has a shape.

use serde_json::Value;

use crate::level::Level;

pub(crate) struct Line<'l> {
    /// RFC 3339 in local time with nine digits of fraction.
    pub(crate) time: String,
    pub(crate) level: Level,
    pub(crate) message: &'l str,
    /// Sorted by key.
    pub(crate) fields: Vec<(&'l str, &'l Value)>,
}

/// Keys of the line itself. A field of the same name is renamed, as logrus does.
const OWN_KEYS: [&str; 3] = ["time", "level", "msg"];

impl Line<'_> {
    pub(crate) fn key_of(name: &str) -> String {
        let name = name.strip_prefix("r#").unwrap_or(name);
        if OWN_KEYS.contains(&name) {
            format!("fields.{name}")
        } else {
            name.to_owned()
        }
    }
}
