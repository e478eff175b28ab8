//! OCI resources as cgroup files, and writing them.
//!
//! What to write is computed first ([`version1`], [`version2`]: pure functions) and written after, so the translation
//! can be tested without a host.

mod version1;
mod version2;
mod weight;

use std::io;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use crate::{Cgroup, CgroupLayout, CgroupWarning, devices, files};

pub use weight::{cpu_shares_to_weight, cpu_weight_to_shares};

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) controller: String,
    pub(crate) file: String,
    pub(crate) value: String,
    pub(crate) absence: Absence,
}

/// What it means when the host does not have the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The limit was asked for: an error where the controller exists, a warning where it does not.
    Error,
    /// An optional feature of the kernel: a warning.
    Warning,
    /// Nothing is lost.
    Ignored,
}

impl Setting {
    pub(crate) fn new(controller: &str, file: &str, value: impl ToString) -> Self {
        Self {
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
            absence: Absence::Error,
        }
    }

    pub(crate) fn or(mut self, absence: Absence) -> Self {
        self.absence = absence;
        self
    }
}

/// Why limits could not be set. Settings before the failing one are in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyLimitsError {
    /// The kernel refused a value.
    #[error("cannot write `{value}` to `{}`", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The host has the controller but this cgroup does not: the limit would silently not hold.
    #[error("the {controller} controller is not enabled for `{}`", file.display())]
    NotEnabled {
        /// The controller.
        controller: String,
        /// The file that is missing.
        file: PathBuf,
    },
    /// The request contradicts itself.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// `memory swap limit`, ...
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The device rules could not be put in force.
    #[error("cannot restrict devices for `{}`", directory.display())]
    Devices {
        /// The cgroup directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cgroup {
    /// Sets the limits that `resources` names and leaves all others alone.
    ///
    /// # Errors
    /// The first one refused. Limits the host has no controller for come back as warnings.
    pub fn apply(
        &self,
        resources: &LinuxResources,
    ) -> Result<Vec<CgroupWarning>, ApplyLimitsError> {
        self.apply_with(resources, &self.version_settings(resources)?)
    }

    /// As [`Cgroup::apply`] for a cgroup just made.
    pub(crate) fn apply_new(
        &self,
        resources: &LinuxResources,
    ) -> Result<Vec<CgroupWarning>, ApplyLimitsError> {
        self.apply(resources)
    }

    fn version_settings(
        &self,
        resources: &LinuxResources,
    ) -> Result<Vec<Setting>, ApplyLimitsError> {
        match self.layout {
            CgroupLayout::Unified(_) => version2::settings(resources),
            CgroupLayout::Legacy { .. } => version1::settings(resources),
        }
    }

    fn apply_with(
        &self,
        resources: &LinuxResources,
        settings: &[Setting],
    ) -> Result<Vec<CgroupWarning>, ApplyLimitsError> {
        let mut warnings = Vec::new();
        let mut at = 0;
        while let Some(setting) = settings.get(at) {
            let written = self.write_setting(setting);
            // Version 1 demands limit <= limit with swap at every moment, and cpu quota / period within the parent's:
            // which of the pair has to go first depends on what is in force, so the second is tried before the first.
            let pair = settings
                .get(at + 1)
                .filter(|next| version1::is_pair(setting, next));
            match (written, pair) {
                (Err(ApplyLimitsError::Write { .. }), Some(next)) => {
                    warnings.extend(self.write_setting(next)?);
                    warnings.extend(self.write_setting(setting)?);
                    at += 2;
                }
                (written, _) => {
                    warnings.extend(written?);
                    at += 1;
                }
            }
        }
        if let Some(rules) = resources
            .devices()
            .as_deref()
            .filter(|rules| !rules.is_empty())
        {
            warnings.extend(devices::apply(self, rules)?);
        }
        Ok(warnings)
    }

    fn write_setting(&self, setting: &Setting) -> Result<Option<CgroupWarning>, ApplyLimitsError> {
        let warning = |message: String| {
            Ok(Some(CgroupWarning {
                controller: setting.controller.clone(),
                message,
            }))
        };
        let Some(directory) = self.controller_directory(&setting.controller) else {
            if setting.absence == Absence::Ignored {
                return Ok(None);
            }
            return warning(format!(
                "the host has no such controller, `{}` is not in force",
                setting.file
            ));
        };
        let file = directory.join(&setting.file);
        match files::write(&file, &setting.value) {
            Ok(()) => Ok(None),
            Err(error) if is_absent(&error) => match setting.absence {
                Absence::Ignored => Ok(None),
                Absence::Error if self.layout.has_controller(&setting.controller) => {
                    Err(ApplyLimitsError::NotEnabled {
                        controller: setting.controller.clone(),
                        file,
                    })
                }
                _ => warning(format!(
                    "the host has no `{}`, it is not in force",
                    setting.file
                )),
            },
            Err(source) => Err(ApplyLimitsError::Write {
                file,
                value: setting.value.clone(),
                source,
            }),
        }
    }
}

/// Opening a missing file for writing in cgroupfs gives EACCES or EPERM on some kernels, as nothing can be created there.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Kernel file names contain the size as the kernel spells it: `2MB`, `1GB`, `64KB`.
pub(crate) fn page_size_name(text: &str) -> Option<&str> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    (!digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(unit, "KB" | "MB" | "GB"))
    .then_some(text)
}
