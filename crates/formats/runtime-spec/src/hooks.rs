//! OCI hooks that the administrator keeps in files (oci-hooks, version 1.0.0): which of them a container gets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{Hook, HookBuilder, Hooks};
use regex::Regex;
use serde::Deserialize;

/// Where in a container's life a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Stage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

/// A hook file.
#[derive(Debug)]
pub struct HookFile {
    hook: Hook,
    stages: Vec<Stage>,
    when: When,
}

/// Every condition that is given has to hold.
#[derive(Debug, Default)]
struct When {
    always: Option<bool>,
    annotations: Vec<(Regex, Regex)>,
    commands: Vec<Regex>,
    bind_mounts: Option<bool>,
}

/// What the conditions look at.
#[derive(Debug, Clone, Copy)]
pub struct HookFacts<'a> {
    /// Annotations of pod and container.
    pub annotations: &'a BTreeMap<String, String>,
    /// First word of the container's command.
    pub command: &'a str,
    /// Whether the request has bind mounts.
    pub bind_mounts: bool,
}

/// Why a hook file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is no JSON of this form.
    #[error("it is not valid")]
    Json {
        /// Why.
        #[from]
        source: serde_json::Error,
    },
    /// Another version.
    #[error("its version is {version:?}, not \"1.0.0\"")]
    Version {
        /// The one it has.
        version: String,
    },
    /// A pattern is none.
    #[error("its pattern {pattern:?} is not valid")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: Box<regex::Error>,
    },
    /// Nothing in it says which containers are meant.
    #[error("it has no condition in `when`")]
    NoCondition,
    /// Nothing in it says when to run.
    #[error("it has no stages")]
    NoStage,
    /// The program's path does not start with a slash.
    #[error("its path `{}` is not absolute", path.display())]
    RelativePath {
        /// The path.
        path: PathBuf,
    },
    /// The hook does not fit into a spec.
    #[error("its hook is not valid")]
    Hook {
        /// Why.
        #[from]
        source: OciSpecError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    hook: FileHook,
    when: FileWhen,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileHook {
    path: PathBuf,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FileWhen {
    always: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

impl HookFile {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(content: &[u8]) -> Result<Self, HookError> {
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(default)]
            version: String,
        }
        let Versioned { version } = serde_json::from_slice(content)?;
        if version != "1.0.0" {
            return Err(HookError::Version { version });
        }
        let file: File = serde_json::from_slice(content)?;
        debug_assert_eq!(file.version, version);
        if !file.hook.path.is_absolute() {
            let path = file.hook.path;
            return Err(HookError::RelativePath { path });
        }
        if file.stages.is_empty() {
            return Err(HookError::NoStage);
        }
        let mut hook = HookBuilder::default().path(file.hook.path);
        if let Some(args) = file.hook.args {
            hook = hook.args(args);
        }
        if let Some(env) = file.hook.env {
            hook = hook.env(env);
        }
        if let Some(timeout) = file.hook.timeout {
            hook = hook.timeout(timeout);
        }
        Ok(Self {
            hook: hook.build()?,
            stages: file.stages,
            when: When::parse(file.when)?,
        })
    }

    /// Whether a container gets it.
    #[must_use]
    pub fn applies(&self, facts: &HookFacts<'_>) -> bool {
        let when = &self.when;
        let annotated = |(key, value): &(Regex, Regex)| {
            facts
                .annotations
                .iter()
                .any(|(k, v)| key.is_match(k) && value.is_match(v))
        };
        when.always != Some(false)
            && when
                .bind_mounts
                .is_none_or(|wanted| wanted == facts.bind_mounts)
            && when.annotations.iter().all(annotated)
            && (when.commands.is_empty()
                || when.commands.iter().any(|one| one.is_match(facts.command)))
    }

    /// Puts it at its stages, after the hooks that are there.
    pub fn add_to(&self, hooks: &mut Hooks) {
        for stage in &self.stages {
            let slot = match stage {
                Stage::Prestart => hooks.prestart_mut(),
                Stage::CreateRuntime => hooks.create_runtime_mut(),
                Stage::CreateContainer => hooks.create_container_mut(),
                Stage::StartContainer => hooks.start_container_mut(),
                Stage::Poststart => hooks.poststart_mut(),
                Stage::Poststop => hooks.poststop_mut(),
            };
            slot.get_or_insert_default().push(self.hook.clone());
        }
    }
}

impl When {
    fn parse(file: FileWhen) -> Result<Self, HookError> {
        let mut annotations = Vec::new();
        for (key, value) in file.annotations {
            annotations.push((pattern(key)?, pattern(value)?));
        }
        let commands = file.commands.into_iter().map(pattern);
        let when = Self {
            always: file.always,
            annotations,
            commands: commands.collect::<Result<_, _>>()?,
            bind_mounts: file.has_bind_mounts,
        };
        let empty = when.always.is_none()
            && when.bind_mounts.is_none()
            && when.annotations.is_empty()
            && when.commands.is_empty();
        match empty {
            true => Err(HookError::NoCondition),
            false => Ok(when),
        }
    }
}

fn pattern(pattern: String) -> Result<Regex, HookError> {
    Regex::new(&pattern).map_err(|source| HookError::Pattern {
        pattern,
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(when: &str) -> String {
        format!(
            r#"{{"version":"1.0.0","hook":{{"path":"/usr/bin/h","args":["h","x"],"env":["A=1"],"timeout":3}},
                "when":{when},"stages":["createRuntime","poststop"]}}"#
        )
    }

    fn applies(when: &str, annotations: &[(&str, &str)], command: &str, bind_mounts: bool) -> bool {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        HookFile::parse(file(when).as_bytes())
            .unwrap()
            .applies(&HookFacts {
                annotations: &annotations,
                command,
                bind_mounts,
            })
    }

    #[test]
    fn every_condition_has_to_hold() {
        assert!(applies(r#"{"always":true}"#, &[], "", false));
        assert!(!applies(r#"{"always":false}"#, &[], "", false));
        let gpu = r#"{"annotations":{"^gpu$":"^(on|yes)$"},"commands":["^/usr/bin/","train"]}"#;
        assert!(applies(gpu, &[("gpu", "yes")], "/usr/bin/x", false));
        assert!(applies(gpu, &[("gpu", "on")], "mytrain", false));
        assert!(!applies(gpu, &[("gpu", "off")], "/usr/bin/x", false));
        assert!(!applies(gpu, &[("gpu", "on")], "/bin/x", false));
        assert!(applies(r#"{"hasBindMounts":true}"#, &[], "", true));
        assert!(!applies(r#"{"hasBindMounts":true}"#, &[], "", false));
        assert!(!applies(
            r#"{"always":true,"hasBindMounts":false}"#,
            &[],
            "",
            true
        ));
    }

    #[test]
    fn it_is_added_at_its_stages() {
        let one = HookFile::parse(file(r#"{"always":true}"#).as_bytes()).unwrap();
        let mut hooks = Hooks::default();
        one.add_to(&mut hooks);
        one.add_to(&mut hooks);
        let stage = hooks.create_runtime().as_ref().unwrap();
        assert_eq!(stage.len(), 2);
        assert_eq!(stage[0].path(), &PathBuf::from("/usr/bin/h"));
        assert_eq!(stage[0].timeout(), Some(3));
        assert_eq!(hooks.poststop().as_ref().unwrap().len(), 2);
        assert!(hooks.poststart().is_none());
    }

    #[test]
    fn nonsense_is_named() {
        for (text, part) in [
            ("{}".to_owned(), "version is \"\""),
            (r#"{"version":"0.1.0","hook":"/x"}"#.to_owned(), "0.1.0"),
            (file("{}"), "no condition"),
            (file(r#"{"commands":["("]}"#), "pattern \"(\""),
            (file(r#"{"allways":true}"#), "not valid"),
            (
                file(r#"{"always":true}"#).replace("/usr/bin/h", "bin/h"),
                "not absolute",
            ),
            (
                file(r#"{"always":true}"#).replace(r#"["createRuntime","poststop"]"#, "[]"),
                "no stages",
            ),
        ] {
            let error = HookFile::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
