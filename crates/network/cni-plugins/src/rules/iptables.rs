//! The `iptables` program: for the filter table, which only it may change.

use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crioxide_cni::{PluginError, error_code};

/// The program exits with this when a rule or chain is not there.
const NOT_THERE: i32 = 1;

/// A table of one address family, as one plugin uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iptables<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) ipv4: bool,
    pub(crate) table: &'static str,
    pub(crate) deadline: Instant,
}

impl Iptables<'_> {
    fn program(&self) -> &'static str {
        if self.ipv4 { "iptables" } else { "ip6tables" }
    }

    /// Makes a chain unless it is there.
    pub(crate) fn ensure_chain(&self, chain: &str) -> Result<(), PluginError> {
        if self.answer(&["-n", "-L", chain])? {
            return Ok(());
        }
        // Somebody else may have been first.
        let made = self.run(&["-N", chain]);
        if made.is_err() && self.answer(&["-n", "-L", chain])? {
            return Ok(());
        }
        made
    }

    /// Makes a rule the first of a chain unless it is there.
    pub(crate) fn ensure_first(&self, chain: &str, rule: &[String]) -> Result<(), PluginError> {
        if self.has(chain, rule)? {
            return Ok(());
        }
        self.run(&with_rule(&["-I", chain, "1"], rule))
    }

    /// Appends a rule unless it is there.
    pub(crate) fn ensure(&self, chain: &str, rule: &[String]) -> Result<(), PluginError> {
        if self.has(chain, rule)? {
            return Ok(());
        }
        self.run(&with_rule(&["-A", chain], rule))
    }

    pub(crate) fn has(&self, chain: &str, rule: &[String]) -> Result<bool, PluginError> {
        self.answer(&with_rule(&["-C", chain], rule))
    }

    pub(crate) fn delete(&self, chain: &str, rule: &[String]) -> Result<(), PluginError> {
        self.run(&with_rule(&["-D", chain], rule))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(), PluginError> {
        let output = self.output(arguments)?;
        if output.status.success() {
            Ok(())
        } else {
            Err(self.failed(arguments, &output))
        }
    }

    /// Runs a question.
    fn answer(&self, arguments: &[&str]) -> Result<bool, PluginError> {
        let output = self.output(arguments)?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(NOT_THERE) => Ok(false),
            _ => Err(self.failed(arguments, &output)),
        }
    }

    fn output(&self, arguments: &[&str]) -> Result<Output, PluginError> {
        // It waits for others that change the tables, but not longer than we may.
        let left = self.deadline.saturating_duration_since(Instant::now());
        let patience = left.as_secs().clamp(1, 60).to_string();
        let started: io::Result<Output> = Command::new(self.program())
            .args(["-w", &patience, "-t", self.table])
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        started.map_err(|error| {
            let message = format!("run `{}`: {error}", self.program());
            PluginError::reported(self.plugin, error_code::NOT_AVAILABLE, message)
        })
    }

    fn failed(&self, arguments: &[&str], output: &Output) -> PluginError {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!(
            "`{} {}` ended with {}: {}",
            self.program(),
            arguments.join(" "),
            output.status,
            said.trim()
        );
        PluginError::reported(self.plugin, error_code::FAILED, message)
    }
}

fn with_rule<'a>(command: &[&'a str], rule: &'a [String]) -> Vec<&'a str> {
    command
        .iter()
        .copied()
        .chain(rule.iter().map(String::as_str))
        .collect()
}

/// Words of a rule: single spaces between them, none inside.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
