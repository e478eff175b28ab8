//! The `iptables` programs.

mod names;
mod programs;
mod saved;
mod script;
mod tool;

pub(crate) use names::{chain_name, dnat_comment, masquerade_comment, owner_in};
pub(crate) use programs::{CANARY, Flavor, Programs};
pub(crate) use saved::{Rule, Saved};
pub(crate) use script::Script;
pub(crate) use tool::{Iptables, Watched};

use std::io;

/// An `iptables` program could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IptablesError {
    #[error("there is no program `{0}`")]
    Missing(String),
    #[error("run `{program}`")]
    Run { program: String, source: io::Error },
    #[error("`{program}` did not end in time and was killed")]
    TimedOut { program: String },
    #[error("`{program} {arguments}` ended with {status}: {said}")]
    Failed {
        program: String,
        arguments: String,
        status: std::process::ExitStatus,
        said: String,
    },
    #[error("`{program}` prints more rules than can be read")]
    TooLong { program: String },
}

/// Words of a rule: single spaces between them, none inside.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
