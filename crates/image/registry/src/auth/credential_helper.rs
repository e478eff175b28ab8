//! Credential helpers: programs `docker-credential-<name>` that keep passwords elsewhere.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde::Deserialize;

use super::Credentials;
use crate::secret::Secret;

/// A helper that takes longer is ended.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// A helper's answer is not longer (bytes).
const MAX_ANSWER: u64 = 1 << 20;
/// What helpers say when they know nothing.
const NOT_FOUND: &str = "credentials not found";
/// In the place of the user name: the secret is an identity token.
const TOKEN: &str = "<token>";

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CredentialHelperError {
    /// Its name could lead to another directory.
    #[error("`{name}` is not the name of a credential helper")]
    Name {
        /// The name.
        name: String,
    },
    /// It cannot be run.
    #[error("run credential helper `{program}`")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("credential helper `{program}` took longer than {} s", TIME_LIMIT.as_secs())]
    TimedOut {
        /// The program.
        program: String,
    },
    /// It failed, or its answer makes no sense. What it said may be secret, and is not shown.
    #[error("credential helper `{program}`: {reason}")]
    Answer {
        /// The program.
        program: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks the helper `name` for the credentials of `server`. Blocks until it answers or is ended.
pub(super) fn ask(name: &str, server: &str) -> Result<Option<Credentials>, CredentialHelperError> {
    if name.is_empty() || name.contains(['/', '\0']) {
        return Err(CredentialHelperError::Name {
            name: name.to_owned(),
        });
    }
    let program = format!("docker-credential-{name}");
    let (succeeded, output) = run(&program, server, TIME_LIMIT)?;
    let flawed = |reason: String| CredentialHelperError::Answer {
        program: program.clone(),
        reason,
    };
    if !succeeded {
        if String::from_utf8_lossy(&output).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(flawed("it failed".to_owned()));
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|e| {
        flawed(format!(
            "its answer is not the JSON it should be ({:?})",
            e.classify()
        ))
    })?;
    Ok(match (answer.username.as_str(), answer.secret) {
        ("", secret) if secret.is_empty() => None,
        (TOKEN, secret) => Some(Credentials::IdentityToken(Secret::new(secret))),
        (username, secret) => Some(Credentials::password(username, secret)),
    })
}

/// Whether the program succeeded, and what it wrote.
fn run(
    program: &str,
    server: &str,
    limit: Duration,
) -> Result<(bool, Vec<u8>), CredentialHelperError> {
    let failed = |source| CredentialHelperError::Run {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (sender, read) = channel();
    let server = server.to_owned();
    // Ends when the program does, or closes its output.
    std::thread::spawn(move || {
        let mut output = Vec::new();
        // A helper that does not read its input says so by failing.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(server.as_bytes());
        }
        let done = match stdout {
            Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut output),
            None => Ok(0),
        };
        let _ = sender.send(done.map(|_| output));
    });
    let output = read.recv_timeout(limit);
    // Whatever still runs is not needed any more; one that has ended is not harmed.
    if output.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match output {
        Ok(output) => Ok((status.success(), output.map_err(failed)?)),
        Err(_) => Err(CredentialHelperError::TimedOut {
            program: program.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &tempfile::TempDir, text: &str) -> String {
        let path = directory.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    #[test]
    fn a_helper_is_given_the_server_and_its_answer_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let program = script(&directory, r#"[ "$1" = get ] && cat"#);
        let (succeeded, output) = run(&program, "quay.io", TIME_LIMIT).unwrap();
        assert!(succeeded);
        assert_eq!(output, b"quay.io");
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let program = script(&directory, "exec sleep 1000");
        let error = run(&program, "quay.io", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, CredentialHelperError::TimedOut { .. }));
    }

    #[test]
    fn names_do_not_lead_elsewhere() {
        for name in ["", "../x", "a/b"] {
            let error = ask(name, "quay.io").unwrap_err();
            assert!(
                matches!(error, CredentialHelperError::Name { .. }),
                "{name}"
            );
        }
        let error = ask("that-is-not-there", "quay.io").unwrap_err().to_string();
        assert!(error.contains("docker-credential-that-is-not-there"));
    }
}
