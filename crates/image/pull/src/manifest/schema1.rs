//! Docker's schema 1: layers without sizes, and a history whose newest entry holds the image's configuration.
//!
//! The configuration that other tools would write for such an image is made here, byte for byte, as its digest is the
//! image's id.

mod old_config;

use std::collections::{BTreeMap, HashSet};

use crioxide_names::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{MAX_LAYERS, or_default};

/// The time that Go writes for none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// Keys of a history entry that are not configuration.
const NOT_CONFIG: &[&str] = &["id", "parent", "parent_id", "layer_id", "throwaway", "Size"];

/// A manifest of schema 1.
#[derive(Debug, Clone)]
pub(crate) struct Schema1 {
    /// Base layer first.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    blob: Digest,
    about: About,
    /// All that the history says about it.
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    fs_layers: Vec<RawLayer>,
    history: Vec<RawHistory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    blob_sum: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHistory {
    v1_compatibility: String,
}

/// What a history entry says about its layer.
#[derive(Debug, Clone, Deserialize)]
struct About {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    parent: String,
    #[serde(default, deserialize_with = "or_default")]
    comment: String,
    #[serde(default, deserialize_with = "or_default")]
    created: String,
    #[serde(default, deserialize_with = "or_default")]
    container_config: Command,
    #[serde(default, deserialize_with = "or_default")]
    author: String,
    /// There is no file system change; the blob is an empty archive.
    #[serde(default, deserialize_with = "or_default")]
    throwaway: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Command {
    #[serde(default, deserialize_with = "or_default")]
    cmd: Vec<String>,
}

#[derive(Serialize)]
struct History {
    created: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    created_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    empty_layer: bool,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    diff_ids: Vec<&'a str>,
}

impl Schema1 {
    /// Parses a manifest without its signatures.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
        if raw.fs_layers.len() != raw.history.len() {
            return Err(format!(
                "{} layers, but {} entries of history",
                raw.fs_layers.len(),
                raw.history.len()
            ));
        }
        if raw.fs_layers.len() > MAX_LAYERS {
            let count = raw.fs_layers.len();
            return Err(format!("{count} layers, more than {MAX_LAYERS}"));
        }
        let mut entries = Vec::new();
        for (layer, history) in raw.fs_layers.iter().zip(raw.history) {
            let about: About = serde_json::from_str(&history.v1_compatibility)
                .map_err(|e| format!("an entry of the history: {e}"))?;
            let id = &about.id;
            if id.len() != 64 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!("`{id}` is not the id of a layer"));
            }
            let blob = Digest::parse(&layer.blob_sum).map_err(|e| e.to_string())?;
            let text = history.v1_compatibility;
            entries.push(Entry { blob, about, text });
        }
        if entries.is_empty() {
            return Err("no layers".to_owned());
        }
        entries.reverse();
        check_parents(&entries)?;
        // Equal neighbours are one; the one nearer to the base is kept.
        entries.dedup_by(|later, earlier| later.about.id == earlier.about.id);
        Ok(Self { entries })
    }

    /// Blobs of the layers that change something, base layer first.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let real = self.entries.iter().filter(|entry| !entry.about.throwaway);
        real.map(|entry| &entry.blob)
    }

    /// The configuration, given the digests of the uncompressed layers of [`Self::blobs`].
    pub(crate) fn config(&self, diff_ids: &[Digest]) -> Result<Vec<u8>, String> {
        let flawed = |e: serde_json::Error| format!("the newest entry of the history: {e}");
        let newest = self.entries.last().ok_or("no layers")?;
        let config = match old_config::rewritten(&newest.text).map_err(flawed)? {
            Some(rewritten) => rewritten,
            None => newest.text.clone(),
        };
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&config).map_err(flawed)?;
        fields.retain(|key, _| !NOT_CONFIG.contains(&key.as_str()));
        let rootfs = RootFs {
            kind: "layers",
            diff_ids: diff_ids.iter().map(Digest::as_str).collect(),
        };
        let history: Vec<History> = self.entries.iter().map(Entry::history).collect();
        let raw = |text| RawValue::from_string(text).map_err(flawed);
        let rootfs = raw(serde_json::to_string(&rootfs).map_err(flawed)?)?;
        fields.insert("rootfs".to_owned(), rootfs);
        let history = raw(serde_json::to_string(&history).map_err(flawed)?)?;
        fields.insert("history".to_owned(), history);
        let text = serde_json::to_string(&fields).map_err(flawed)?;
        Ok(as_go_writes(&text).into_bytes())
    }
}

impl Entry {
    fn history(&self) -> History {
        History {
            created: go_time(&self.about.created),
            author: self.about.author.clone(),
            created_by: self.about.container_config.cmd.join(" "),
            comment: self.about.comment.clone(),
            empty_layer: self.about.throwaway,
        }
    }
}

/// Each entry must name the one below as its parent, and none may come twice, except side by side.
fn check_parents(entries: &[Entry]) -> Result<(), String> {
    let mut seen = HashSet::new();
    let mut below = "";
    for entry in entries {
        let About { id, parent, .. } = &entry.about;
        if id == below {
            continue;
        }
        if parent != below {
            return Err(format!("layer `{id}` has parent `{parent}`, not `{below}`"));
        }
        if !seen.insert(id) {
            return Err(format!("layer `{id}` comes twice"));
        }
        below = id;
    }
    Ok(())
}

/// A time as Go writes it again: without zeros at the end of the fraction.
fn go_time(text: &str) -> String {
    if text.is_empty() {
        return NO_TIME.to_owned();
    }
    let Some((seconds, rest)) = text.split_once('.') else {
        return text.to_owned();
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(end);
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}{zone}"),
        fraction => format!("{seconds}.{fraction}{zone}"),
    }
}

/// Valid JSON without white space, and with the characters escaped that Go escapes.
fn as_go_writes(json: &str) -> String {
    let mut written = String::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            ' ' | '\t' | '\n' | '\r' if !quoted => continue,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                written.push_str(&format!("\\u{:04x}", u32::from(c)));
                continue;
            }
            _ => {}
        }
        written.push(c);
    }
    written
}

#[cfg(test)]
mod tests;
