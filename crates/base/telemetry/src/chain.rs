//! An error with everything that caused it.

use std::error::Error;
use std::fmt;

/// Prints an error and its sources, outermost first, separated by `: `.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'e>(&'e (dyn Error + 'static));

/// The chain of `error`, for log lines and answers: our errors do not print their sources themselves.
pub fn chain<'e>(error: &'e (dyn Error + 'static)) -> Chain<'e> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
