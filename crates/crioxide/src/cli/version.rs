//! `version`: what this program is and what it was built from.

use std::fmt;

use clap::ArgMatches;
use serde::Serialize;

use super::output;

/// The version of the program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The lock file of the build, which lists every dependency with its version.
const LOCK_FILE: &str = include_str!("../../../../Cargo.lock");

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Short,
    /// With dependencies.
    Verbose,
}

/// The labels are those of `crio version`, which scripts look for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionInfo {
    version: &'static str,
    git_commit: &'static str,
    git_commit_date: &'static str,
    git_tree_state: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
    linkmode: &'static str,
    build_tags: Vec<&'static str>,
    ld_flags: &'static str,
    seccomp_enabled: bool,
    app_armor_enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<String>,
}

impl VersionInfo {
    pub(crate) fn collect(depth: Depth) -> Self {
        let is_static = cfg!(target_feature = "crt-static");
        Self {
            version: VERSION,
            git_commit: option_env!("CRIOXIDE_GIT_COMMIT").unwrap_or("unknown"),
            git_commit_date: option_env!("CRIOXIDE_GIT_COMMIT_DATE").unwrap_or("unknown"),
            git_tree_state: option_env!("CRIOXIDE_GIT_TREE_STATE").unwrap_or("unknown"),
            // A static build is reproducible and carries no date.
            build_date: if is_static {
                ""
            } else {
                option_env!("CRIOXIDE_BUILD_DATE").unwrap_or("unknown")
            },
            go_version: concat!("none (Rust ", env!("CARGO_PKG_RUST_VERSION"), ")"),
            compiler: "rustc",
            platform: format!("linux/{}", architecture()),
            linkmode: if is_static { "static" } else { "dynamic" },
            build_tags: vec!["seccomp", "apparmor", "selinux"],
            ld_flags: "unknown",
            seccomp_enabled: seccomp_enabled(),
            app_armor_enabled: app_armor_enabled(),
            dependencies: if depth == Depth::Verbose {
                dependencies()
            } else {
                Vec::new()
            },
        }
    }
}

impl fmt::Display for VersionInfo {
    /// One aligned `Label: value` per line, lists on lines of their own.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, value: &str| {
            let label = if label.is_empty() {
                String::new()
            } else {
                format!("{label}:")
            };
            writeln!(formatter, "{}", format!("{label:<17}{value}").trim_end())
        };
        line("Version", self.version)?;
        line("GitCommit", self.git_commit)?;
        line("GitCommitDate", self.git_commit_date)?;
        line("GitTreeState", self.git_tree_state)?;
        if !self.build_date.is_empty() {
            line("BuildDate", self.build_date)?;
        }
        line("GoVersion", self.go_version)?;
        line("Compiler", self.compiler)?;
        line("Platform", &self.platform)?;
        line("Linkmode", self.linkmode)?;
        line("BuildTags", "")?;
        self.build_tags.iter().try_for_each(|tag| line("", tag))?;
        line("LDFlags", self.ld_flags)?;
        line("SeccompEnabled", &self.seccomp_enabled.to_string())?;
        line("AppArmorEnabled", &self.app_armor_enabled.to_string())?;
        if !self.dependencies.is_empty() {
            line("Dependencies", "")?;
            self.dependencies
                .iter()
                .try_for_each(|dependency| line("", dependency))?;
        }
        Ok(())
    }
}

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let depth = if matches.get_flag("verbose") {
        Depth::Verbose
    } else {
        Depth::Short
    };
    let info = VersionInfo::collect(depth);
    output::print(&if matches.get_flag("json") {
        serde_json::to_string_pretty(&info)?
    } else {
        info.to_string()
    })
}

/// The architecture by Go's name, which Kubernetes uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

fn seccomp_enabled() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nSeccomp:"))
}

fn app_armor_enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
}

/// `name version` of each package in the lock file.
fn dependencies() -> Vec<String> {
    let field = |line: &str, key: &str| {
        line.strip_prefix(key)
            .map(|value| value.trim_matches('"').to_owned())
    };
    let mut found = Vec::new();
    let mut name = None;
    for line in LOCK_FILE.lines() {
        if let Some(value) = field(line, "name = ") {
            name = Some(value);
        } else if let Some(version) = field(line, "version = ")
            && let Some(name) = name.take().filter(|name| !name.starts_with("crioxide"))
        {
            found.push(format!("{name} {version}"));
        }
    }
    found
}
