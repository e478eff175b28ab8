//! Flags and environment variables as overrides.

use clap::ArgMatches;
use crioxide_config::{
    CommandLineOptions, OptionSpec, Override, OverrideError, TABLES, override_from_environment,
    override_from_flag,
};

/// What the user set outside of the files. A flag beats its variable.
#[derive(Debug)]
pub(crate) struct Overrides {
    /// For keys of the configuration file, and for `runtimes`.
    pub(crate) keys: Vec<Override>,
    /// For options that only the command line has.
    pub(crate) command_line: Vec<Override>,
}

/// Gathers the flags in `matches` and the variables that `variable` gives.
pub(crate) fn gather(
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Overrides, OverrideError> {
    let mut keys = Vec::new();
    for option in TABLES.iter().flat_map(|table| table.options) {
        keys.extend(given(option, matches, variable)?);
    }
    let mut command_line = Vec::new();
    for option in CommandLineOptions::OPTIONS {
        let Some(value) = given(option, matches, variable)? else {
            continue;
        };
        if option.key == "runtimes" {
            keys.push(value.clone());
        }
        command_line.push(value);
    }
    Ok(Overrides { keys, command_line })
}

fn given<Owner>(
    option: &OptionSpec<Owner>,
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Override>, OverrideError> {
    let Some(flag) = option.flag() else {
        return Ok(None);
    };
    if let Some(texts) = matches.get_many::<String>(&flag) {
        let texts: Vec<String> = texts.cloned().collect();
        return override_from_flag(option, &texts).map(Some);
    }
    // An empty variable counts as not set, as with `crio`, except that it may empty a text.
    for name in option.variables() {
        match variable(&name) {
            Some(text) if text.is_empty() && option.kind != crioxide_config::Kind::Text => {}
            Some(text) => return override_from_environment(option, &name, &text).map(Some),
            None => {}
        }
    }
    Ok(None)
}
