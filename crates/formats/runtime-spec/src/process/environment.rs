//! The environment of a container's process.

use crioxide_cri_api::v1;
use thiserror::Error;

/// What every process starts with.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERM: &str = "TERM=xterm";

/// A variable that cannot be passed on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Empty, or with `=` or NUL inside.
    #[error("environment variable name {name:?} is empty or contains `=` or NUL")]
    Name {
        /// The name.
        name: String,
    },
    /// NUL inside, or not UTF-8, which the OCI spec cannot carry.
    #[error("value of environment variable `{name}` contains NUL or is not UTF-8")]
    Value {
        /// The name.
        name: String,
    },
}

/// Where variables come from, later ones winning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// `K=V` from the configuration.
    pub defaults: &'a [String],
    /// `K=V` from the image.
    pub image: &'a [String],
    /// From the pod.
    pub pod: &'a [v1::KeyValue],
    /// Host name of the pod.
    pub hostname: &'a str,
    /// Home directory, used if nobody sets `HOME`.
    pub home: Option<&'a str>,
}

/// Merges the sources: configuration < image < pod.
///
/// Each name appears once. (The order is: base, host name, configuration, pod, rest of the image.)
///
/// # Errors
/// Fails for names and values no process can receive.
pub fn merge(sources: Sources<'_>) -> Result<Vec<String>, EnvironmentError> {
    let mut variables = Variables::default();
    variables.set_text(DEFAULT_PATH);
    variables.set_text(TERM);
    variables.set("HOSTNAME", sources.hostname);
    for text in sources.defaults {
        variables.set_text(text);
    }
    let mut from_pod = Vec::new();
    for pair in sources.pod {
        let value = checked(pair)?;
        variables.set(&pair.key, value);
        from_pod.push(pair.key.as_str());
    }
    for text in sources.image {
        let name = text.split('=').next().unwrap_or_default();
        if !from_pod.contains(&name) {
            variables.set_text(text);
        }
    }
    if let Some(home) = sources.home.filter(|_| variables.get("HOME").is_none()) {
        variables.set("HOME", home);
    }
    Ok(variables.0)
}

/// The value of `name` in a merged environment.
#[must_use]
pub fn lookup<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .find_map(|text| text.strip_prefix(name)?.strip_prefix('='))
}

fn checked(pair: &v1::KeyValue) -> Result<&str, EnvironmentError> {
    if pair.key.is_empty() || pair.key.contains(['=', '\0']) {
        return Err(EnvironmentError::Name {
            name: pair.key.clone(),
        });
    }
    match std::str::from_utf8(pair.value.as_ref()) {
        Ok(value) if !value.contains('\0') => Ok(value),
        _ => Err(EnvironmentError::Value {
            name: pair.key.clone(),
        }),
    }
}

/// `K=V` texts with unique names, in order of first appearance.
#[derive(Debug, Default)]
struct Variables(Vec<String>);

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        lookup(&self.0, name)
    }

    fn set(&mut self, name: &str, value: &str) {
        let text = format!("{name}={value}");
        match self.0.iter_mut().find(|known| {
            known
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('='))
        }) {
            Some(known) => *known = text,
            None => self.0.push(text),
        }
    }

    /// Sets from `K=V`; a text without `=` is a variable without value, as container engines treat it.
    fn set_text(&mut self, text: &str) {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if !name.is_empty() && !text.contains('\0') {
            self.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> v1::KeyValue {
        v1::KeyValue {
            key: key.into(),
            value: value.to_owned().into(),
        }
    }

    #[test]
    fn precedence_is_configuration_image_pod() {
        let defaults = [
            "A=default".to_owned(),
            "B=default".to_owned(),
            "C=default".to_owned(),
        ];
        let image = [
            "PATH=/image".to_owned(),
            "B=image".to_owned(),
            "C=image".to_owned(),
            "EMPTY".to_owned(),
        ];
        let pod = [pair("C", "pod=x"), pair("HOSTNAME", "mine")];
        let merged = merge(Sources {
            defaults: &defaults,
            image: &image,
            pod: &pod,
            hostname: "web",
            home: Some("/root"),
        })
        .unwrap();
        assert_eq!(
            merged,
            [
                "PATH=/image",
                "TERM=xterm",
                "HOSTNAME=mine",
                "A=default",
                "B=image",
                "C=pod=x",
                "EMPTY=",
                "HOME=/root"
            ]
        );
    }

    #[test]
    fn home_is_only_a_fallback() {
        let image = ["HOME=/srv".to_owned()];
        let merged = merge(Sources {
            image: &image,
            home: Some("/root"),
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(lookup(&merged, "HOME"), Some("/srv"));
        assert_eq!(lookup(&merged, "HOM"), None);
    }

    #[test]
    fn impossible_variables_are_refused() {
        for (key, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            assert!(
                merge(Sources {
                    pod: &[pair(key, value)],
                    ..Sources::default()
                })
                .is_err(),
                "{key:?}"
            );
        }
    }
}
