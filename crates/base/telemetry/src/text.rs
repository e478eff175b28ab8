//! logrus's text shape without colours.

use serde_json::Value;

use crate::line::Line;
use crate::quoting;

pub(crate) fn encode(line: &Line<'_>) -> String {
    let mut out = String::with_capacity(128 + line.message.len());
    out.push_str("time=");
    quoting::append(&mut out, &line.time);
    out.push_str(" level=");
    out.push_str(line.level.as_str());
    if !line.message.is_empty() {
        out.push_str(" msg=");
        quoting::append(&mut out, line.message);
    }
    for (name, value) in &line.fields {
        out.push(' ');
        out.push_str(&Line::key_of(name));
        out.push('=');
        match value {
            Value::String(text) => quoting::append(&mut out, text),
            other => quoting::append(&mut out, &other.to_string()),
        }
    }
    out.push('\n');
    out
}
