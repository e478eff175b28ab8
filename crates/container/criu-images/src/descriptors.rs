//! Where the standard streams led, by which a runtime gives them new ends.

use std::path::Path;

use crate::error::{FitError, Problem};
use crate::image::{contents, named};

/// A link in `/proc/PID/fd` is no longer.
const LONGEST: usize = 4096;

/// Checks that it is about the three streams and nothing else: the runtimes give criu their descriptors by number.
pub(crate) fn check(directory: &Path, name: &str) -> Result<(), FitError> {
    let bytes = contents(directory, name)?;
    let read = || -> Result<(), Problem> {
        let targets: Vec<String> =
            serde_json::from_slice(&bytes).map_err(|error| format!("it is damaged: {error}"))?;
        if targets.len() != 3 {
            return Err(format!(
                "it names {} streams instead of three",
                targets.len()
            ));
        }
        for target in &targets {
            if target.len() > LONGEST {
                return Err("a stream leads too far".to_owned());
            }
            let number = target
                .strip_prefix("pipe:[")
                .and_then(|rest| rest.strip_suffix(']'));
            let pipe =
                number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
            if target.contains("pipe:") && !pipe {
                return Err(format!("{target:?} is no pipe"));
            }
        }
        Ok(())
    };
    Ok(read().map_err(named(name))?)
}
