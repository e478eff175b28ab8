//! The items of `--runtimes`: `name:path:root[:type[:privileged_without_host_devices[:config_path[:memory]]]]`.

use crate::diagnostic::Origin;
use crate::load::raw::{Setting, Settings};
use crate::value::Value;

/// The keys of the fields after the name.
const FIELDS: [&str; 6] = [
    "runtime_path",
    "runtime_root",
    "runtime_type",
    "privileged_without_host_devices",
    "runtime_config_path",
    "container_min_memory",
];

/// Parses one item into a handler's name and settings.
///
/// # Errors
/// When the number of fields is not 3 to 7 or the fifth is no boolean.
pub(crate) fn parse(item: &str, origin: &Origin) -> Result<(String, Settings), String> {
    let fields: Vec<&str> = item.split(':').collect();
    if !(3..=7).contains(&fields.len()) {
        return Err(format!("wrong format for --runtimes: {item:?}"));
    }
    let mut settings = Settings::new();
    for (key, text) in FIELDS.iter().zip(&fields[1..]) {
        let value = match *key {
            "privileged_without_host_devices" => match *text {
                "true" => Value::Bool(true),
                "" | "false" => Value::Bool(false),
                other => {
                    return Err(format!(
                        "wrong boolean {other:?} for privileged_without_host_devices: {item:?}"
                    ));
                }
            },
            "container_min_memory" if text.is_empty() => continue,
            _ => Value::Text((*text).to_owned()),
        };
        settings.insert(
            (*key).to_owned(),
            Setting {
                value,
                origin: origin.clone(),
            },
        );
    }
    Ok((fields[0].to_owned(), settings))
}
