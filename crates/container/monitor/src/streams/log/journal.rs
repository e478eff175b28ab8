//! A copy of the output in the system's journal, in conmon's fields, by journald's own protocol: one datagram a message.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::prefix::Stream;
use super::records::{Record, records};

/// Where journald listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// Bytes of messages that are kept while the journal takes none. More are dropped, and the journal is told how many: the
/// log file has them, and nobody waits.
const BACKLOG_LIMIT: usize = 256 * 1024;

/// Characters of the short form of an id.
const SHORT_ID: usize = 12;

const WARNING: u8 = b'4';

/// Sends records to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    /// Fields that all messages have.
    fields: Vec<u8>,
    /// Whether the last record of a stream (output, errors) left its line open.
    inside: [bool; 2],
    owed: VecDeque<Vec<u8>>,
    owed_bytes: usize,
    dropped: u64,
}

impl Journal {
    /// For a container, known by `name`, that logs to the journal at `socket`, which need not be there yet.
    pub(crate) fn new(socket: &Path, id: &str, name: &str) -> io::Result<Self> {
        let sender = UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        // A line break would end the field.
        let name = name.replace('\n', " ");
        let short = id.get(..SHORT_ID).unwrap_or(id);
        let fields = format!(
            "CONTAINER_ID_FULL={id}\nCONTAINER_ID={short}\nCONTAINER_NAME={name}\nSYSLOG_IDENTIFIER={name}\n"
        );
        Ok(Self {
            socket: sender,
            path: socket.to_owned(),
            fields: fields.into_bytes(),
            inside: [false; 2],
            owed: VecDeque::new(),
            owed_bytes: 0,
            dropped: 0,
        })
    }

    /// Sends what was read from the container.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for record in records(bytes) {
            let place = usize::from(stream == Stream::Stderr);
            let continued = std::mem::replace(&mut self.inside[place], !record.full);
            let message = self.message(stream, record, continued);
            self.send(message);
        }
    }

    /// Tries to send what the journal did not take before. `false` when something is still owed.
    pub(crate) fn retry(&mut self) -> bool {
        while let Some(message) = self.owed.front() {
            if self.socket.send_to(message, &self.path).is_err() {
                return false;
            }
            self.owed_bytes -= message.len();
            self.owed.pop_front();
        }
        if self.dropped > 0 {
            let text = format!(
                "The journal was slow: {} messages of this container are in its log file only",
                self.dropped
            );
            let notice = self.compose(text.as_bytes(), WARNING, true);
            if self.socket.send_to(&notice, &self.path).is_err() {
                return false;
            }
            self.dropped = 0;
        }
        true
    }

    /// Whether something is owed to the journal.
    pub(crate) fn is_behind(&self) -> bool {
        !self.owed.is_empty() || self.dropped > 0
    }

    fn send(&mut self, message: Vec<u8>) {
        if self.retry() && self.socket.send_to(&message, &self.path).is_ok() {
            return;
        }
        if self.owed_bytes + message.len() > BACKLOG_LIMIT {
            self.dropped += 1;
        } else {
            self.owed_bytes += message.len();
            self.owed.push_back(message);
        }
    }

    /// A line may begin with its own priority, as `<3>`.
    fn message(&self, stream: Stream, record: Record<'_>, continued: bool) -> Vec<u8> {
        match record.content {
            [b'<', priority @ b'0'..=b'7', b'>', content @ ..] if !continued => {
                self.compose(content, *priority, record.full)
            }
            content => {
                let priority = match stream {
                    Stream::Stdout => b'6',
                    Stream::Stderr => b'3',
                };
                self.compose(content, priority, record.full)
            }
        }
    }

    fn compose(&self, content: &[u8], priority: u8, full: bool) -> Vec<u8> {
        let mut message = Vec::with_capacity(content.len() + self.fields.len() + 64);
        message.extend_from_slice(&self.fields);
        message.extend_from_slice(b"PRIORITY=");
        message.push(priority);
        message.push(b'\n');
        if !full {
            message.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n");
        }
        // The only field that may hold anything but a line break, which records do not have.
        message.extend_from_slice(b"MESSAGE=");
        message.extend_from_slice(content);
        message.push(b'\n');
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn received(journal: &UnixDatagram) -> Vec<String> {
        journal.set_nonblocking(true).expect("a socket");
        let mut buffer = vec![0; 65_536];
        let mut all = Vec::new();
        while let Ok(count) = journal.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
        all
    }

    fn of(message: &str, priority: u8, partial: &str) -> String {
        format!(
            "CONTAINER_ID_FULL={ID}\nCONTAINER_ID=0123456789ab\nCONTAINER_NAME=k8s_a\nSYSLOG_IDENTIFIER=k8s_a\n\
             PRIORITY={priority}\n{partial}MESSAGE={message}\n"
        )
    }

    #[test]
    fn lines_are_messages() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let mut copy = Journal::new(&path, ID, "k8s_a").expect("a sender");
        copy.write(Stream::Stdout, b"one\n<4>two\nthr");
        copy.write(Stream::Stderr, b"<9>bad\n");
        copy.write(Stream::Stdout, b"<5>ee\n");
        let partial = "CONTAINER_PARTIAL_MESSAGE=true\n";
        let expected = [
            of("one", 6, ""),
            of("two", 4, ""),
            of("thr", 6, partial),
            of("<9>bad", 3, ""),
            of("<5>ee", 6, ""),
        ];
        assert_eq!(received(&journal), expected);
    }

    #[test]
    fn a_journal_that_is_away_or_full_gets_all_later_or_is_told() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("socket");
        let mut copy = Journal::new(&path, ID, "k8s_a").expect("a sender");
        copy.write(Stream::Stdout, b"early\n");
        assert!(copy.is_behind() && !copy.retry());
        let journal = UnixDatagram::bind(&path).expect("a socket");
        copy.write(Stream::Stdout, b"later\n");
        assert_eq!(received(&journal), [of("early", 6, ""), of("later", 6, "")]);
        let line = [&[b'x'; 1000][..], b"\n"].concat();
        for _ in 0..2000 {
            copy.write(Stream::Stdout, &line);
        }
        assert!(copy.owed_bytes <= BACKLOG_LIMIT && copy.dropped > 0);
        let (dropped, mut got) = (copy.dropped, received(&journal));
        while !copy.retry() {
            got.extend(received(&journal));
        }
        got.extend(received(&journal));
        let told = got.pop().expect("a notice");
        assert!(told.contains(&format!("{dropped} messages")), "{told}");
        assert_eq!(got.len() as u64, 2000 - dropped);
        assert!(!copy.is_behind());
    }
}
