//! Account file entries for users and groups the image does not know.

use thiserror::Error;

use super::accounts::{self, AccountFileError};

/// An entry that would not be one line of one account.
#[derive(Debug, Error)]
pub enum SynthesizeError {
    /// The image's file is unusable.
    #[error(transparent)]
    File(#[from] AccountFileError),
    /// A field with `:` or control characters.
    #[error("{field} {value:?} cannot be written to an account file")]
    Field {
        /// `user name` or `home directory`.
        field: &'static str,
        /// The value.
        value: String,
    },
}

/// An account to add.
#[derive(Debug, Clone, Copy)]
pub struct NewAccount<'a> {
    /// Login name; empty for `default`.
    pub name: &'a str,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory; empty for `/`.
    pub home: &'a str,
}

/// The image's `/etc/passwd` with the account added, or `None` if it has the user id already.
///
/// # Errors
/// Fails if the file is unusable, or if name or home directory would add fields or lines of their own.
pub fn passwd(
    original: &[u8],
    account: NewAccount<'_>,
) -> Result<Option<Vec<u8>>, SynthesizeError> {
    let name = if account.name.is_empty() {
        "default"
    } else {
        account.name
    };
    let home = if account.home.is_empty() {
        "/"
    } else {
        account.home
    };
    check("user name", name)?;
    check("home directory", home)?;
    let mut known = false;
    accounts::for_each_account(&mut &original[..], |entry| {
        known = entry.uid == account.uid;
        !known
    })?;
    let line = format!(
        "{name}:x:{}:{}:{name} user:{home}:/sbin/nologin\n",
        account.uid, account.gid
    );
    Ok((!known).then(|| append(original, &line)))
}

/// The image's `/etc/group` with the group added, or `None` if it has the group id already.
///
/// # Errors
/// Fails if the file is unusable.
pub fn group(original: &[u8], gid: u32) -> Result<Option<Vec<u8>>, SynthesizeError> {
    let mut known = false;
    accounts::for_each_group(&mut &original[..], |entry| {
        known = entry.gid == gid;
        !known
    })?;
    Ok((!known).then(|| append(original, &format!("{gid}:x:{gid}:\n"))))
}

fn check(field: &'static str, value: &str) -> Result<(), SynthesizeError> {
    if value.chars().any(|character| {
        character == ':' || character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
    }) {
        return Err(SynthesizeError::Field {
            field,
            value: value.to_owned(),
        });
    }
    Ok(())
}

fn append(original: &[u8], line: &str) -> Vec<u8> {
    let mut content = original.to_vec();
    if content.last().is_some_and(|byte| *byte != b'\n') {
        content.push(b'\n');
    }
    content.extend_from_slice(line.as_bytes());
    content
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &[u8] = b"root:x:0:0:root:/root:/bin/sh";

    fn added(name: &str, home: &str) -> Result<Option<Vec<u8>>, SynthesizeError> {
        passwd(
            ROOT,
            NewAccount {
                name,
                uid: 1234,
                gid: 5,
                home,
            },
        )
    }

    #[test]
    fn one_line_is_added() {
        let content = added("", "").unwrap().unwrap();
        assert_eq!(
            String::from_utf8(content).unwrap(),
            "root:x:0:0:root:/root:/bin/sh\ndefault:x:1234:5:default user:/:/sbin/nologin\n"
        );
        assert_eq!(
            passwd(
                ROOT,
                NewAccount {
                    name: "",
                    uid: 0,
                    gid: 0,
                    home: ""
                }
            )
            .unwrap(),
            None
        );
        assert_eq!(group(b"", 7).unwrap().unwrap(), b"7:x:7:\n");
        assert_eq!(group(b"a:x:7:\n", 7).unwrap(), None);
    }

    #[test]
    fn injected_accounts_are_refused() {
        for home in ["/\nevil:x:0:0::/:/bin/sh", "/\r", "/\0", "/a:/bin/sh"] {
            assert!(
                matches!(
                    added("", home),
                    Err(SynthesizeError::Field {
                        field: "home directory",
                        ..
                    })
                ),
                "{home:?}"
            );
            assert!(
                matches!(
                    added(home, ""),
                    Err(SynthesizeError::Field {
                        field: "user name",
                        ..
                    })
                ),
                "{home:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn exactly_one_account_more(name in any::<String>(), home in "\\PC{0,20}") {
            if let Ok(Some(content)) = added(&name, &home) {
                let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
                prop_assert_eq!(lines, 2);
                prop_assert_eq!(content.iter().filter(|byte| **byte == b':').count(), 12);
            }
        }
    }
}
