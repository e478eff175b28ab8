//! Bounded, streaming reading of `/etc/passwd` and `/etc/group`.

use std::io::{BufRead, Read};

use thiserror::Error;

/// Longest line, in bytes.
pub const MAX_LINE: usize = 64 << 10;
/// Most bytes read from one file.
pub const MAX_FILE: u64 = 16 << 20;

/// An account file that cannot be used.
#[derive(Debug, Error)]
pub enum AccountFileError {
    /// Reading failed.
    #[error("cannot read {file}")]
    Read {
        /// Which file.
        file: &'static str,
        /// The system's report.
        source: std::io::Error,
    },
    /// A line beyond [`MAX_LINE`].
    #[error("line {number} of {file} is longer than {MAX_LINE} bytes")]
    Line {
        /// Which file.
        file: &'static str,
        /// Line number, from 1.
        number: usize,
    },
    /// A file beyond [`MAX_FILE`].
    #[error("{file} is larger than {MAX_FILE} bytes")]
    Size {
        /// Which file.
        file: &'static str,
    },
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<String>,
}

/// Calls `visit` for every account until it returns `false`; lines that are no accounts are passed over.
///
/// # Errors
/// Fails if reading fails or a limit is exceeded.
pub fn for_each_account(
    passwd: &mut dyn BufRead,
    mut visit: impl FnMut(Account) -> bool,
) -> Result<(), AccountFileError> {
    for_each_line("/etc/passwd", passwd, |line| {
        parse_account(line).is_none_or(&mut visit)
    })
}

/// Calls `visit` for every group until it returns `false`; lines that are no groups are passed over.
///
/// # Errors
/// Fails if reading fails or a limit is exceeded.
pub fn for_each_group(
    group: &mut dyn BufRead,
    mut visit: impl FnMut(Group) -> bool,
) -> Result<(), AccountFileError> {
    for_each_line("/etc/group", group, |line| {
        parse_group(line).is_none_or(&mut visit)
    })
}

/// An id as account files and requests may write it: decimal digits only, at most 2147483647.
#[must_use]
pub fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u32>()
        .ok()
        .filter(|id| digits && i32::try_from(*id).is_ok())
}

fn parse_account(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, ..] = fields[..] else {
        return None;
    };
    Some(Account {
        name: name.to_owned(),
        uid: parse_id(uid)?,
        gid: parse_id(gid)?,
        home: home.to_owned(),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
    let members = fields
        .next()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty());
    Some(Group {
        name: name.to_owned(),
        gid: parse_id(gid.trim())?,
        members: members.map(str::to_owned).collect(),
    })
}

fn for_each_line(
    file: &'static str,
    reader: &mut dyn BufRead,
    mut visit: impl FnMut(&str) -> bool,
) -> Result<(), AccountFileError> {
    let mut total = 0_u64;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|source| AccountFileError::Read { file, source })?;
        if read == 0 {
            break;
        }
        total += read as u64;
        if total > MAX_FILE {
            return Err(AccountFileError::Size { file });
        }
        if line.len() > MAX_LINE {
            return Err(AccountFileError::Line { file, number });
        }
        let text = String::from_utf8_lossy(&line);
        let trimmed = text.trim();
        if !trimmed.is_empty() && !trimmed.starts_with('#') && !visit(trimmed) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn accounts(text: &[u8]) -> Result<Vec<Account>, AccountFileError> {
        let mut found = Vec::new();
        for_each_account(&mut &text[..], |account| {
            found.push(account);
            true
        })?;
        Ok(found)
    }

    #[test]
    fn odd_lines_are_passed_over() {
        let text = b"# comment\n\nroot:x:0:0:root:/root:/bin/sh\nbroken\nneg:x:-1:0::/:\nbig:x:4294967296:0::/:\nwrap:x:2147483648:0::/:\nlast:x:7:8::/home";
        let names: Vec<String> = accounts(text)
            .unwrap()
            .into_iter()
            .map(|account| account.name)
            .collect();
        assert_eq!(names, ["root", "last"]);
    }

    #[test]
    fn endless_files_end_in_an_error() {
        let mut endless = BufReader::new(std::io::repeat(b'a'));
        assert!(matches!(
            for_each_account(&mut endless, |_| true),
            Err(AccountFileError::Line { number: 1, .. })
        ));
        let line = [&[b'a'; 8191][..], b"\n"].concat();
        let many = line.repeat(usize::try_from(MAX_FILE).unwrap() / line.len() + 1);
        assert!(matches!(
            for_each_group(&mut &many[..], |_| true),
            Err(AccountFileError::Size { .. })
        ));
    }

    #[test]
    fn ids_are_strict() {
        for (text, id) in [
            ("0", Some(0)),
            ("2147483647", Some(2_147_483_647)),
            ("2147483648", None),
            ("4294967296", None),
            ("+0", None),
            ("-1", None),
            ("1e3", None),
            ("", None),
            (" 1", None),
            ("0x1", None),
        ] {
            assert_eq!(parse_id(text), id, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = accounts(&bytes);
            let _ = for_each_group(&mut &bytes[..], |_| true);
        }
    }
}
