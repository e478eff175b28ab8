//! Reading ahead: one thread decompresses and hashes while another one makes files, so that a layer that is left alone
//! uses two processors.

use crate::tar::Chunks;
use sha2::{Digest as _, Sha256};
use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes in a piece.
const CHUNK: usize = 256 << 10;
/// Pieces that may wait to be worked on.
const DEPTH: usize = 4;

/// What a reader delivers ahead of those who want it.
pub(super) struct Ahead {
    /// An empty piece is the end.
    chunks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    finished: bool,
}

/// Calls `work` with what `reader` delivers; the second result is the SHA-256 of everything that was read, which is all of
/// it if `work` read to the end.
pub(super) fn read_ahead<T>(
    reader: impl Read + Send,
    work: impl FnOnce(Ahead) -> T,
) -> io::Result<(T, [u8; 32])> {
    thread::scope(|scope| {
        let (filled, chunks) = sync_channel(DEPTH);
        let (spent, spares) = channel();
        let producer = thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn_scoped(scope, move || produce(reader, &filled, &spares))?;
        let result = work(Ahead {
            chunks,
            spent,
            finished: false,
        });
        // With nobody to take what it reads, the thread ends.
        let digest = producer
            .join()
            .map_err(|_| io::Error::other("the reading thread panicked"))?;
        Ok((result, digest))
    })
}

fn produce(
    mut reader: impl Read,
    filled: &SyncSender<io::Result<Vec<u8>>>,
    spares: &Receiver<Vec<u8>>,
) -> [u8; 32] {
    let mut hasher = Sha256::new();
    loop {
        let mut chunk = spares.try_recv().unwrap_or_default();
        let (count, error) = fill(&mut reader, &mut chunk);
        chunk.truncate(count);
        hasher.update(&chunk);
        // What came before an error is still good.
        let last = match error {
            Some(error) if count == 0 => Some(Err(error)),
            Some(error) => {
                if filled.send(Ok(chunk)).is_err() {
                    break;
                }
                Some(Err(error))
            }
            None if count == 0 => Some(Ok(chunk)),
            None if filled.send(Ok(chunk)).is_err() => break,
            None => None,
        };
        if let Some(last) = last {
            // Whether anybody still wants to know does not matter.
            let _ = filled.send(last);
            break;
        }
    }
    hasher.finalize().into()
}

/// Reads as much as fits: decompressors return little at a time, and large pieces are what hashing and writing want.
fn fill(reader: &mut impl Read, chunk: &mut Vec<u8>) -> (usize, Option<io::Error>) {
    chunk.resize(CHUNK, 0);
    let mut count = 0;
    while count < CHUNK {
        match reader.read(&mut chunk[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (count, Some(error)),
        }
    }
    (count, None)
}

impl Chunks for Ahead {
    fn next(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        let spent = std::mem::take(chunk);
        if self.finished {
            return Ok(());
        }
        // The thread may have read to the end already.
        let _ = self.spent.send(spent);
        let next = self.chunks.recv().unwrap_or_else(|_| {
            let reason = "the reading thread ended early";
            Err(io::Error::new(ErrorKind::UnexpectedEof, reason))
        });
        self.finished = next.as_ref().map_or(true, Vec::is_empty);
        *chunk = next?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some bytes, a few at a time, and then an error or the end.
    struct Source {
        left: usize,
        fails: bool,
    }

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("on purpose"));
            }
            let count = buffer.len().min(self.left).min(1000);
            buffer[..count].fill(7);
            self.left -= count;
            Ok(count)
        }
    }

    fn read(left: usize, fails: bool) -> (usize, Option<String>, [u8; 32]) {
        let ((count, error), digest) = read_ahead(Source { left, fails }, |mut ahead| {
            let (mut chunk, mut count) = (Vec::new(), 0);
            loop {
                match ahead.next(&mut chunk) {
                    Ok(()) if chunk.is_empty() => {
                        assert!(ahead.next(&mut chunk).is_ok(), "the end lasts");
                        return (count, None);
                    }
                    Ok(()) => count += chunk.iter().filter(|&&byte| byte == 7).count(),
                    Err(error) => return (count, Some(error.to_string())),
                }
            }
        })
        .unwrap();
        (count, error, digest)
    }

    #[test]
    fn everything_comes_and_is_hashed() {
        for length in [0, 1, CHUNK, CHUNK * 9 + 5] {
            let (count, error, digest) = read(length, false);
            assert_eq!((count, error), (length, None));
            let expected: [u8; 32] = Sha256::digest(vec![7; length]).into();
            assert_eq!(digest, expected);
            let failed = read(length, true);
            assert_eq!(
                (failed.0, failed.1.as_deref()),
                (length, Some("on purpose"))
            );
        }
    }

    #[test]
    fn a_reader_that_is_not_wanted_any_more_ends() {
        let source = Source {
            left: usize::MAX,
            fails: false,
        };
        let (first, _) = read_ahead(source, |mut ahead| {
            let mut chunk = Vec::new();
            ahead.next(&mut chunk).unwrap();
            chunk.len()
        })
        .unwrap();
        assert_eq!(first, CHUNK);
    }
}
