//! Reading profiles.

use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag};
use serde::Deserialize;
use thiserror::Error;

use super::errno;

/// A profile, before it is narrowed down to one container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub(super) default_action: LinuxSeccompAction,
    #[serde(default)]
    pub(super) default_errno_ret: Option<u32>,
    #[serde(default)]
    default_errno: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) arch_map: Vec<Architecture>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) syscalls: Vec<Rule>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default)]
    pub(super) listener_path: Option<String>,
    #[serde(default)]
    pub(super) listener_metadata: Option<String>,
}

/// An architecture and the ones its kernel also runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Architecture {
    pub(super) architecture: Arch,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) sub_architectures: Vec<Arch>,
}

/// What happens to some system calls under some conditions.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) names: Vec<String>,
    /// The only name, in profiles of earlier engines.
    #[serde(default)]
    name: String,
    pub(super) action: LinuxSeccompAction,
    #[serde(default)]
    pub(super) errno_ret: Option<u32>,
    #[serde(default)]
    errno: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) includes: Condition,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) excludes: Condition,
}

/// Facts a rule depends on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) caps: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) arches: Vec<String>,
    #[serde(default)]
    pub(super) min_kernel: String,
}

/// A profile that cannot be used.
#[derive(Debug, Error)]
pub enum ParseProfileError {
    /// Not JSON of one of the two forms.
    #[error("seccomp profile {file} is not valid")]
    Json {
        /// The file.
        file: String,
        /// The parser's report, with line and column.
        source: serde_json::Error,
    },
    /// A value that contradicts another or is unknown.
    #[error("seccomp profile {file}: {field} {problem}")]
    Field {
        /// The file.
        file: String,
        /// Where in the file.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Profile {
    /// Reads the JSON text of a profile; `file` is named in errors.
    ///
    /// # Errors
    /// Fails for texts that are no profile, unknown actions, operators, architectures and error names, and rules
    /// that contradict themselves.
    pub fn parse(file: &str, content: &[u8]) -> Result<Self, ParseProfileError> {
        let mut profile: Self =
            serde_json::from_slice(content).map_err(|source| ParseProfileError::Json {
                file: file.to_owned(),
                source,
            })?;
        let refused = |field: String, problem| ParseProfileError::Field {
            file: file.to_owned(),
            field,
            problem,
        };
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err(refused(
                "architectures".to_owned(),
                "and archMap are both given, but only one may be",
            ));
        }
        profile.default_errno_ret =
            number(profile.default_errno_ret, profile.default_errno.as_deref())
                .ok_or_else(|| refused("defaultErrno".to_owned(), "is not a known error name"))?;
        for (index, rule) in profile.syscalls.iter_mut().enumerate() {
            let field = |name: &str| format!("syscalls[{index}].{name}");
            if !rule.name.is_empty() {
                if !rule.names.is_empty() {
                    return Err(refused(
                        field("name"),
                        "and names are both given, but only one may be",
                    ));
                }
                rule.names.push(std::mem::take(&mut rule.name));
            }
            if rule.names.is_empty() {
                return Err(refused(field("names"), "is empty"));
            }
            rule.errno_ret = number(rule.errno_ret, rule.errno.as_deref())
                .ok_or_else(|| refused(field("errno"), "is not a known error name"))?;
            if rule.args.iter().any(|argument| argument.index() > 5) {
                return Err(refused(field("args"), "has an index above 5"));
            }
            for condition in [&rule.includes, &rule.excludes] {
                if !condition.min_kernel.is_empty()
                    && condition
                        .min_kernel
                        .parse::<super::KernelVersion>()
                        .is_err()
                {
                    return Err(refused(field("minKernel"), "is not a kernel version"));
                }
            }
        }
        Ok(profile)
    }
}

/// The number, or the named error's; `None` if the name is unknown.
fn number(given: Option<u32>, name: Option<&str>) -> Option<Option<u32>> {
    match (given, name.filter(|name| !name.is_empty())) {
        (Some(given), _) => Some(Some(given)),
        (None, Some(name)) => errno::parse(name).map(Some),
        (None, None) => Some(None),
    }
}

/// Engines write `null` where a list is empty.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
