//! `status containers --id`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    pid: i64,
    image: String,
    image_ref: String,
    /// Nanoseconds since 1970.
    created_time: i64,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    crio_annotations: Option<BTreeMap<String, String>>,
    log_path: String,
    root: String,
    sandbox: String,
    ip_addresses: Option<Vec<String>>,
}

/// The endpoint for container `id`.
pub(super) fn path(id: &str) -> anyhow::Result<String> {
    ensure!(!id.is_empty(), "the argument --id cannot be empty");
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ensure!(plain, "`{id}` is no container id");
    Ok(format!("/containers/{id}"))
}

/// The answer of `/containers/{id}` for people.
pub(super) fn render(body: &[u8]) -> anyhow::Result<String> {
    let container: Container = serde_json::from_slice(body).context("read the daemon's answer")?;
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _infallible = writeln!(text, "{key}: {value}");
    };
    line("name", &container.name);
    line("pid", &container.pid.to_string());
    line("image", &container.image);
    line("image ref", &container.image_ref);
    line("created", &created(container.created_time));
    for (key, entries) in [
        ("labels", container.labels),
        ("annotations", container.annotations),
        ("CRI-O annotations", container.crio_annotations),
    ] {
        line(key, "");
        for (name, value) in entries.unwrap_or_default() {
            line(&format!("  {name}"), &value);
        }
    }
    line("log path", &container.log_path);
    line("graph root", &container.root);
    line("sandbox", &container.sandbox);
    line(
        "ips",
        &container.ip_addresses.unwrap_or_default().join(", "),
    );
    Ok(text)
}

fn created(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_or_else(|_| nanoseconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_printed_as_crio_prints_it() {
        let body = br#"{"name":"n","pid":7,"image":"i","image_ref":"r","created_time":1500000000,
            "labels":{"a":"b"},"annotations":null,"crio_annotations":{},"log_path":"/l","root":"/r",
            "sandbox":"s","ip_addresses":["10.0.0.1","fd::1"]}"#;
        assert_eq!(
            render(body).unwrap(),
            "name: n\npid: 7\nimage: i\nimage ref: r\ncreated: 1970-01-01T00:00:01.5Z\nlabels: \n  a: b\n\
             annotations: \nCRI-O annotations: \nlog path: /l\ngraph root: /r\nsandbox: s\nips: 10.0.0.1, fd::1\n"
        );
    }

    #[test]
    fn ids_cannot_lead_elsewhere() {
        assert!(path("").is_err());
        assert!(path("../config HTTP/1.1").is_err());
        assert_eq!(path("abc").unwrap(), "/containers/abc");
    }
}
