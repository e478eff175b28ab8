//! What a container's bundle says of it.

use std::path::Path;

use crioxide_engine::ports::PortResult;
use crioxide_files::read_limited;
use serde_json::Value;

/// Largest config.json that is read back, bytes.
const LARGEST_CONFIG: u64 = 16 << 20;

/// A container's config.json; none where there is no such file.
pub(super) fn config(bundle: &Path) -> PortResult<Option<Value>> {
    match read_limited(bundle.join("config.json"), LARGEST_CONFIG) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The cgroup that a container's config.json names, as the driver writes it.
pub(super) fn cgroups_path(bundle: &Path) -> PortResult<Option<String>> {
    let config = config(bundle)?.unwrap_or_default();
    let path = config.pointer("/linux/cgroupsPath").and_then(Value::as_str);
    Ok(path.filter(|path| !path.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_names_its_cgroup() {
        let bundle = tempfile::tempdir().unwrap();
        let named = || cgroups_path(bundle.path());
        assert_eq!(named().unwrap(), None, "no config.json");
        for (json, expected) in [
            (
                r#"{"linux":{"cgroupsPath":"/pods/crio-1"}}"#,
                Some("/pods/crio-1"),
            ),
            (r#"{"linux":{"cgroupsPath":""}}"#, None),
            (r#"{"linux":{}}"#, None),
        ] {
            std::fs::write(bundle.path().join("config.json"), json).unwrap();
            assert_eq!(named().unwrap().as_deref(), expected, "{json}");
        }
        std::fs::write(bundle.path().join("config.json"), "{").unwrap();
        named().unwrap_err();
    }
}
