//! Reading tar archives of all forms that images come in: v7, ustar, PAX, GNU and star, sparse files included.
//!
//! A pure parser: it touches no file system and trusts nothing. PAX and GNU's long names count more than the plain header,
//! for every reader. Where readers differ (Go's, by which images are built, and GNU tar) the archive is refused, so that no
//! two see different entries in it. Every bound below is far above what real images hold.

mod entry;
mod extensions;
mod header;
mod number;
mod pax;
mod reader;
mod sparse;

#[cfg(test)]
mod fuzz;

pub(crate) use entry::{Entry, Kind, Time};
pub(crate) use reader::{Chunks, Observer, TarReader};
pub(crate) use sparse::Extent;

/// Most headers of one archive.
const MAX_ENTRIES: u64 = 2_000_000;

/// Largest extension header (PAX records, GNU long names, sparse maps), in bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("read the archive after {offset} bytes")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// What the stream said; a decompressor reports damaged data here.
        source: std::io::Error,
    },
    /// The stream ended inside an entry.
    #[error("the archive ends early, after {offset} bytes")]
    Truncated {
        /// Bytes read before.
        offset: u64,
    },
    /// A header makes no sense.
    #[error("archive header before byte {offset}: {problem}")]
    Header {
        /// Bytes read so far.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// More than any real archive holds.
    #[error("archive header before byte {offset}: {what} beyond the limit of {limit}")]
    Limit {
        /// Bytes read so far.
        offset: u64,
        /// What is too large or too many.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}
