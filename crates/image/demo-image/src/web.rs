//! A web server of one page, which logs each request.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use crioxide_sys::signals::SignalDescriptor;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::inside::hostname;

/// Longest request line that is read; the rest of a request is of no interest.
const REQUEST_LIMIT: u64 = 8 << 10;
/// How long a silent client is listened to.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or the network is not there.
    #[error("listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// No signals or connections can be waited for.
    #[error("wait for requests and signals")]
    Wait {
        /// What the kernel said.
        source: io::Error,
    },
    /// The log cannot be written.
    #[error("write to standard output")]
    Output {
        /// What the kernel said.
        source: io::Error,
    },
}

/// Answers requests, one at a time, until SIGTERM or SIGINT. The first process of a container gets no default action
/// for them, so they are waited for.
pub(crate) fn serve(port: u16, log: &mut impl Write) -> Result<(), ServeError> {
    let wait = |source: io::Error| ServeError::Wait { source };
    let signals = SignalDescriptor::block_and_open(&[Signal::TERM, Signal::INT]).map_err(wait)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|source| ServeError::Listen { port, source })?;
    write_line(log, &format!("listening on port {port} as {}", hostname()))?;
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        poll(&mut ready, None).map_err(|error| wait(error.into()))?;
        if signals.read().map_err(wait)?.is_some() {
            return write_line(log, "told to end");
        }
        if ready[1].revents().contains(PollFlags::IN)
            && let Ok((stream, client)) = listener.accept()
        {
            // A client that goes away early is its own affair; the log says so.
            let outcome = match answer(stream) {
                Ok(request) => request,
                Err(error) => format!("no answer: {error}"),
            };
            write_line(log, &format!("{} {outcome}", client.ip()))?;
        }
    }
}

/// Returns the request line.
fn answer(stream: TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    let mut reader = BufReader::new(io::Read::take(&stream, REQUEST_LIMIT));
    reader.read_line(&mut request)?;
    // The rest of the head, so that closing does not reset the connection under the answer.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("hello from {}\n", hostname());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (&stream).write_all(format!("{head}{body}").as_bytes())?;
    Ok(request.trim().chars().filter(|c| !c.is_control()).collect())
}

fn write_line(log: &mut impl Write, line: &str) -> Result<(), ServeError> {
    writeln!(log, "{line}")
        .and_then(|()| log.flush())
        .map_err(|source| ServeError::Output { source })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::answer;

    #[test]
    fn a_request_gets_the_page() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || answer(listener.accept().expect("a client").0));
        let mut client = TcpStream::connect(address).expect("a connection");
        client
            .write_all(b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n")
            .expect("sent");
        let mut page = String::new();
        client.read_to_string(&mut page).expect("a page");
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("hello from "),
            "{page}"
        );
        let request = server.join().expect("the server").expect("a request");
        assert_eq!(request, "GET /path HTTP/1.1");
    }
}
