//! Standard output.

use std::io::{self, Write as _};

/// Prints `text` as it is. A reader that went away is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => {
            outcome.map_err(|source| anyhow::Error::new(source).context("write to standard output"))
        }
    }
}
