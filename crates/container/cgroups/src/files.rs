//! Reading and writing single cgroup files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// The largest of these files (`memory.stat`, `cgroup.procs` of a big pod) stay far below this.
const READ_LIMIT: u64 = 4 << 20;

/// Room for most of them, bytes: without it they would be read in many small pieces.
const USUAL: usize = 256;

/// Writes `value` in one call, never creating the file.
pub(crate) fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// Writes each value in a call of its own, never creating the file.
pub(crate) fn write_each(path: &Path, values: impl Iterator<Item = String>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    for value in values {
        file.write_all(value.as_bytes())?;
    }
    Ok(())
}

/// The whole text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(USUAL);
    File::open(path)?
        .take(READ_LIMIT)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// A file holding one number; `max` and version 1's huge "no limit" values give `None`.
pub(crate) fn read_number(path: &Path) -> io::Result<Option<u64>> {
    let text = read(path)?;
    let text = text.trim();
    if text == "max" || text == "-1" {
        return Ok(None);
    }
    let number: u64 = text
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // Version 1 shows "unlimited" as the largest page-aligned signed number.
    Ok((number < (i64::MAX as u64 & !0xffff)).then_some(number))
}

/// The number behind `key` in a file of `key value` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_matches_whole_keys() {
        let text = "oom 4\noom_kill 2\n";
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom"), Some(4));
        assert_eq!(keyed(text, "kill"), None);
    }
}
