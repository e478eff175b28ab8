//! One HTTP request over a unix socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// More than any answer of the daemon.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The body of what the daemon on `socket` answers to a GET of `path`.
///
/// HTTP/1.0 is spoken: the answer ends with the connection, so nothing needs to be decoded.
pub(super) fn get(socket: &Path, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connect to the daemon at `{}`", socket.display()))?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .context("limit the wait for an answer")?;
    let asked = || format!("ask the daemon at `{}` for {path}", socket.display());
    // In one piece: a daemon that answers after the first piece and hangs up would break the pipe.
    let request = format!("GET {path} HTTP/1.0\r\nHost: crio\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(asked)?;
    let mut answer = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut answer)
        .with_context(asked)?;
    body(answer).with_context(asked)
}

fn body(mut answer: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let Some(end) = answer
        .windows(BLANK_LINE.len())
        .position(|window| window == BLANK_LINE)
    else {
        bail!("the answer is not HTTP");
    };
    let body = answer.split_off(end + BLANK_LINE.len());
    let head = String::from_utf8_lossy(&answer);
    let status = head
        .lines()
        .next()
        .and_then(|line| line.split_once(' '))
        .map_or("", |(_, status)| status);
    if !status.starts_with("200") {
        bail!(
            "the daemon answered {status}: {}",
            String::from_utf8_lossy(&body).trim()
        );
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Serves one connection with `answer` and gives the request.
    fn exchange(answer: &'static str) -> (anyhow::Result<Vec<u8>>, String) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let outcome = get(&socket, "/config");
        (outcome, server.join().unwrap())
    }

    #[test]
    fn bodies_are_handed_out() {
        let (outcome, request) =
            exchange("HTTP/1.0 200 OK\r\ncontent-type: application/toml\r\n\r\n[crio]\n");
        assert_eq!(outcome.unwrap(), b"[crio]\n");
        assert!(request.starts_with("GET /config HTTP/1.0\r\n"), "{request}");
    }

    #[test]
    fn other_answers_are_errors() {
        let (outcome, _) =
            exchange("HTTP/1.1 404 Not Found\r\n\r\ncan't find the container with id x\n");
        let message = format!("{:#}", outcome.unwrap_err());
        assert!(
            message
                .ends_with("the daemon answered 404 Not Found: can't find the container with id x"),
            "{message}"
        );
        let (outcome, _) = exchange("SSH-2.0");
        assert!(format!("{:#}", outcome.unwrap_err()).ends_with("the answer is not HTTP"));
        assert!(get(Path::new("/nonexistent/sock"), "/x").is_err());
    }
}
