//! The effective configuration as TOML.

use std::fmt::Write as _;

use crate::option::OptionSpec;
use crate::tables::{
    BUILTIN_RUNTIME, Config, RuntimeBinary, RuntimeHandler, TABLES, Workload, WorkloadResources,
};
use crate::value::Value;

/// Every key with its value, in the order of the template and without its documentation.
pub fn effective_toml(config: &Config) -> String {
    let mut text = String::new();
    for table in TABLES {
        header(&mut text, table.name);
        entries(&mut text, table.options, config);
        if table.name == "crio.runtime" {
            for (name, handler) in &config.runtimes {
                header(
                    &mut text,
                    &format!("crio.runtime.runtimes.{}", bare_or_quoted(name)),
                );
                for (key, value) in handler_entries(handler) {
                    line(&mut text, key, &value);
                }
            }
            for (name, workload) in &config.workloads {
                let table = format!("crio.runtime.workloads.{}", bare_or_quoted(name));
                header(&mut text, &table);
                entries(&mut text, Workload::OPTIONS, workload);
                header(&mut text, &format!("{table}.resources"));
                entries(&mut text, WorkloadResources::OPTIONS, &workload.resources);
            }
        }
    }
    text
}

/// A handler's keys. The built-in runtime is named, so that the text means the same when it is read again.
pub(crate) fn handler_entries(handler: &RuntimeHandler) -> Vec<(&'static str, Value)> {
    RuntimeHandler::OPTIONS
        .iter()
        .map(|option| {
            let value = match option.key {
                "runtime_path" if handler.binary == RuntimeBinary::Builtin => {
                    Value::Text(BUILTIN_RUNTIME.to_owned())
                }
                _ => option.get(handler),
            };
            (option.key, value)
        })
        .collect()
}

fn header(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("[{name}]\n"));
}

fn entries<Owner>(text: &mut String, options: &[OptionSpec<Owner>], owner: &Owner) {
    for option in options {
        line(text, option.key, &option.get(owner));
    }
}

fn line(text: &mut String, key: &str, value: &Value) {
    let _infallible = writeln!(text, "{key} = {}", toml_value(value));
}

/// A value in TOML's syntax, on one line.
pub(crate) fn toml_value(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::List(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(|item| quoted(item))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        Value::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Map(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, item)| format!("{} = {}", quoted(key), quoted(item)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

pub(crate) fn bare_or_quoted(name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if bare { name.to_owned() } else { quoted(name) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
