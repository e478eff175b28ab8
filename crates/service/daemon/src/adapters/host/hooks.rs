//! The files of `hooks_dir`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crioxide_engine::ports::{HooksRequest, PortError};
use crioxide_files::read_limited;
use crioxide_runtime_spec::hooks::{HookFacts, HookFile};
use oci_spec::runtime::Hooks;

/// Largest hook file, bytes.
const FILE_MAX: u64 = 1 << 20;
/// Most hook files of one directory.
const FILES_MAX: usize = 1024;

/// The hooks a container gets. Files are read anew for every container, so that a change counts at once; a name in a
/// later directory stands for the one in an earlier directory.
pub(super) fn choose(dirs: &[PathBuf], request: &HooksRequest) -> Result<Option<Hooks>, PortError> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in dirs {
        list(dir, &mut files)?;
    }
    let facts = HookFacts {
        annotations: &request.annotations,
        command: &request.command,
        bind_mounts: request.bind_mounts,
    };
    let mut hooks = None;
    for path in files.values() {
        let content = read_limited(path, FILE_MAX)?;
        // Left out it might be missed: a hook can be what confines a container.
        let file = HookFile::parse(&content).map_err(|error| {
            let reason = crioxide_engine::chain(&error);
            format!("hook file {}: {reason}", path.display())
        })?;
        if file.applies(&facts) {
            file.add_to(hooks.get_or_insert_with(Hooks::default));
        }
    }
    Ok(hooks)
}

fn list(dir: &Path, files: &mut BTreeMap<OsString, PathBuf>) -> Result<(), PortError> {
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(fail(error).into()),
    };
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(fail)?.path();
        if let Some(name) = path.file_name().filter(|_| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        }) {
            files.insert(name.to_owned(), path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, program: &str) {
        let text = format!(
            r#"{{"version":"1.0.0","hook":{{"path":"{program}"}},"when":{{"always":true}},"stages":["poststop"]}}"#
        );
        std::fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn later_directories_win_and_names_give_the_order() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = [
            one.path().to_owned(),
            one.path().join("missing"),
            two.path().to_owned(),
        ];
        let request = HooksRequest::default();
        assert!(choose(&dirs, &request).unwrap().is_none());
        write(one.path(), "20-b.json", "/from/one");
        write(one.path(), "10-a.json", "/first");
        write(two.path(), "20-b.json", "/from/two");
        write(two.path(), "30-c.conf", "/not/json");
        let hooks = choose(&dirs, &request).unwrap().unwrap();
        let paths: Vec<_> = hooks
            .poststop()
            .iter()
            .flatten()
            .map(|hook| hook.path().clone())
            .collect();
        assert_eq!(paths, [PathBuf::from("/first"), "/from/two".into()]);
        std::fs::write(two.path().join("40.json"), "{}").unwrap();
        let error = choose(&dirs, &request).unwrap_err().to_string();
        assert!(error.contains("40.json"), "{error}");
    }
}
