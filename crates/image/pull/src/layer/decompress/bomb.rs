//! Blobs that unpack to far more than they are.
//!
//! gzip cannot do more than a thousandfold; zstd, xz and bzip2 can, without end. What they are refused here is what nobody
//! packs: with gzip's factor as the bound, whoever wants to fill a disk has to send a thousandth of it. That a disk is not
//! filled is seen to where files are written.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes of a tar for each byte of its blob: what the best gzip of nothing but zeros has, and a little more.
const MAX_FACTOR: u64 = 1100;
/// A tar of this size may be of any factor (bytes).
const ALLOWANCE: u64 = 16 << 30;

/// Counts what is read of a blob.
#[derive(Debug)]
pub(super) struct Counted<R> {
    blob: R,
    count: Arc<AtomicU64>,
}

/// The tar of a blob, as far as the two are of a likely size.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    tar: R,
    /// Bytes read of the blob so far.
    taken: Arc<AtomicU64>,
    given: u64,
    allowance: u64,
}

pub(super) fn counted<R>(blob: R) -> (Counted<R>, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        blob,
        count: Arc::clone(&count),
    };
    (counted, count)
}

impl<R> Bounded<R> {
    pub(super) fn new(tar: R, taken: Arc<AtomicU64>) -> Self {
        Self {
            tar,
            taken,
            given: 0,
            allowance: ALLOWANCE,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.blob.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        self.given += count as u64;
        let taken = self.taken.load(Ordering::Relaxed);
        if self.given > self.allowance && self.given / MAX_FACTOR > taken {
            let (given, factor) = (self.given, MAX_FACTOR);
            return Err(io::Error::other(format!(
                "{taken} bytes became {given}, beyond the limit of {factor} for each"
            )));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(blob: &[u8], allowance: u64) -> io::Result<u64> {
        let (blob, taken) = counted(blob);
        let mut tar = Bounded::new(zstd::stream::read::Decoder::new(blob)?, taken);
        tar.allowance = allowance;
        io::copy(&mut tar, &mut io::sink())
    }

    #[test]
    fn bombs_are_refused_and_small_ones_are_let_be() {
        let zeros = zstd::encode_all(&vec![0; 32 << 20][..], 3).unwrap();
        assert!(zeros.len() < 32 << 10);
        let error = unpacked(&zeros, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("beyond the limit"), "{error}");
        assert_eq!(unpacked(&zeros, 32 << 20).unwrap(), 32 << 20);
        let text: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = zstd::encode_all(&text[..], 3).unwrap();
        assert_eq!(unpacked(&packed, 0).unwrap(), text.len() as u64);
    }
}
