//! `status info`

use anyhow::Context as _;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Info {
    storage_driver: String,
    storage_image: String,
    storage_root: String,
    cgroup_driver: String,
    default_id_mappings: Mappings,
}

#[derive(Debug, Deserialize)]
struct Mappings {
    #[serde(default)]
    uids: Vec<Mapping>,
    #[serde(default)]
    gids: Vec<Mapping>,
}

#[derive(Debug, Deserialize)]
struct Mapping {
    container_id: u32,
    host_id: u32,
    size: u32,
}

/// The answer of `/info` for people.
pub(super) fn render(body: &[u8]) -> anyhow::Result<String> {
    let info: Info = serde_json::from_slice(body).context("read the daemon's answer")?;
    Ok(format!(
        "cgroup driver: {}\nstorage driver: {}\nstorage graph root: {}\nstorage image: {}\n{}{}",
        info.cgroup_driver,
        info.storage_driver,
        info.storage_root,
        info.storage_image,
        mappings("GID", &info.default_id_mappings.gids),
        mappings("UID", &info.default_id_mappings.uids),
    ))
}

fn mappings(kind: &str, entries: &[Mapping]) -> String {
    let mut text = format!("default {kind} mappings (format <container>:<host>:<size>):\n");
    for entry in entries {
        text.push_str(&format!(
            "  {}:{}:{}\n",
            entry.container_id, entry.host_id, entry.size
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn is_printed_as_crio_prints_it() {
        let body = br#"{"storage_driver":"overlay","storage_image":"","storage_root":"/r","cgroup_driver":"systemd",
            "default_id_mappings":{"uids":[{"container_id":0,"host_id":0,"size":4294967295}],
            "gids":[{"container_id":0,"host_id":1,"size":5}]}}"#;
        assert_eq!(
            render(body).unwrap(),
            "cgroup driver: systemd\nstorage driver: overlay\nstorage graph root: /r\nstorage image: \n\
             default GID mappings (format <container>:<host>:<size>):\n  0:1:5\n\
             default UID mappings (format <container>:<host>:<size>):\n  0:0:4294967295\n"
        );
    }
}
