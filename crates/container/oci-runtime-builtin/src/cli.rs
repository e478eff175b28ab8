//! A command line like runc's, so that conmon, podman and other callers of OCI runtimes can use this one.

mod arguments;
mod commands;
mod console_socket;
mod process_flags;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::ArgMatches;

use crate::setup_error::chain;

/// Runs one command and returns its exit code. To be called first thing in a process with a single thread.
///
/// `arguments` begin with the program's name. Results go to stdout; errors to stderr and to the file given by `--log`.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let matches = match arguments::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are "errors" that go to stdout; a closed one is not our failure.
            let _ = error.print();
            return error.exit_code();
        }
    };
    match commands::run(&matches) {
        Ok(code) => code,
        Err(error) => {
            let text = chain(error.as_ref());
            report(&matches, &text);
            1
        }
    }
}

fn report(matches: &ArgMatches, text: &str) {
    // There is nowhere left to complain to when these writes fail.
    let _ = writeln!(std::io::stderr(), "{text}");
    let Some(path) = matches.get_one::<String>("log") else {
        return;
    };
    let line = if matches
        .get_one::<String>("log-format")
        .is_some_and(|format| format == "json")
    {
        serde_json::json!({"level": "error", "msg": text, "time": timestamp()}).to_string()
    } else {
        format!("time=\"{}\" level=error msg={text:?}", timestamp())
    };
    if let Ok(mut log) = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(Path::new(path))
    {
        let _ = writeln!(log, "{line}");
    }
}

/// Now, as RFC 3339 in UTC.
fn timestamp() -> String {
    let seconds = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    rfc3339(seconds)
}

/// Seconds since the epoch as RFC 3339 in UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years, which all have the same number of days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn arguments_are_consistent() {
        arguments::command().debug_assert();
    }
}
