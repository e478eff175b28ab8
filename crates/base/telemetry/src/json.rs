//! logrus's JSON shape: one object per line, keys sorted.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::line::Line;

pub(crate) fn encode(line: &Line<'_>) -> String {
    let mut object: BTreeMap<String, Value> = line
        .fields
        .iter()
        .map(|(name, value)| (Line::key_of(name), (*value).clone()))
        .collect();
    object.insert("time".to_owned(), line.time.as_str().into());
    object.insert("level".to_owned(), line.level.as_str().into());
    object.insert("msg".to_owned(), line.message.into());
    let mut out =
        serde_json::to_string(&object).expect("a map of JSON values with text keys is JSON");
    out.push('\n');
    out
}
