//! A request to the pod's web server, as a browser on the host would make it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long the server may take to listen, and then to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read, bytes.
const ANSWER_LIMIT: u64 = 64 << 10;

/// An answer of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The status line.
    pub(super) status: String,
    pub(super) body: String,
}

/// `GET /` of the server at `address` (`ip:port`), which may be about to start.
pub(super) async fn get(address: &str) -> anyhow::Result<Page> {
    let mut stream = connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    let exchange = async {
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream
            .take(ANSWER_LIMIT)
            .read_to_string(&mut answer)
            .await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(PATIENCE, exchange)
        .await
        .context("the web server does not answer")?;
    parse(&answer.with_context(|| format!("talk to {address}"))?)
}

async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let attempt = timeout(PATIENCE, TcpStream::connect(address)).await;
        match attempt.context("nobody is there")? {
            Err(error)
                if error.kind() == std::io::ErrorKind::ConnectionRefused
                    && Instant::now() < deadline =>
            {
                // The container has started, its program may not listen yet.
                sleep(Duration::from_millis(1)).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn parse(answer: &str) -> anyhow::Result<Page> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!(
            "the answer is not HTTP: `{}`",
            answer.chars().take(100).collect::<String>()
        );
    };
    let status = head.lines().next().unwrap_or_default().to_owned();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the web server answered `{status}`");
    }
    Ok(Page {
        status,
        body: body.trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_a_page() {
        let page = parse("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello\n").unwrap();
        assert_eq!(
            (page.status.as_str(), page.body.as_str()),
            ("HTTP/1.1 200 OK", "hello")
        );
        assert!(parse("HTTP/1.1 404 Not Found\r\n\r\n").is_err());
        assert!(parse("hello").is_err());
    }
}
