//! Reading tar-split, entry by entry.

use super::{FILE, Line, SEGMENT};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, BufRead, BufReader, Read};

/// Longest line: a segment of the largest header that any writer keeps in one piece.
const MAX_LINE: u64 = 8 << 20;
/// How every line of a segment begins, by all writers.
const SEGMENT_BEGIN: &[u8] = br#"{"type":2,"#;

/// Reads the lines of a tar-split, uncompressed.
#[derive(Debug)]
pub struct TarSplitReader<R> {
    lines: BufReader<R>,
    line: Vec<u8>,
}

/// One entry, in archive order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarSplitEntry {
    /// Bytes of the tar: headers and padding.
    Segment(Vec<u8>),
    /// The content of a file.
    File {
        /// Its name as the archive has it.
        name: Vec<u8>,
        /// Its content; empty files have the checksum 0.
        content: FileContent,
    },
}

/// Tells contents apart, though not against those who mean harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileContent {
    /// Bytes.
    pub size: u64,
    /// CRC-64 (ISO, as Go has it).
    pub crc: u64,
}

/// A tar-split that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarSplitError {
    /// It ends early or cannot be decompressed.
    #[error("read the tar-split")]
    Read(#[from] io::Error),
    /// A line makes no sense.
    #[error("tar-split: {0}")]
    Line(&'static str),
}

impl<R: Read> TarSplitReader<R> {
    /// Reads what `lines` gives.
    pub fn new(lines: R) -> Self {
        Self {
            lines: BufReader::with_capacity(64 << 10, lines),
            line: Vec::new(),
        }
    }

    /// The next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<TarSplitEntry>, TarSplitError> {
        match self.next_line()? {
            true => entry(&self.line).map(Some),
            false => Ok(None),
        }
    }

    /// The next entry that is a file with content, passing over segments at little cost.
    pub fn next_file(&mut self) -> Result<Option<(Vec<u8>, FileContent)>, TarSplitError> {
        while self.next_line()? {
            if self.line.starts_with(SEGMENT_BEGIN) {
                continue;
            }
            if let TarSplitEntry::File { name, content } = entry(&self.line)?
                && content.size > 0
            {
                return Ok(Some((name, content)));
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<bool, TarSplitError> {
        self.line.clear();
        let mut limited = (&mut self.lines).take(MAX_LINE);
        Ok(limited.read_until(b'\n', &mut self.line)? > 0)
    }
}

fn entry(line: &[u8]) -> Result<TarSplitEntry, TarSplitError> {
    let decode = |text: &str, problem| {
        STANDARD
            .decode(text)
            .map_err(|_| TarSplitError::Line(problem))
    };
    let line: Line =
        serde_json::from_slice(line).map_err(|_| TarSplitError::Line("a line is no JSON entry"))?;
    let payload = match &line.payload {
        Some(text) => decode(text, "a payload is no base64")?,
        None => Vec::new(),
    };
    match line.kind {
        SEGMENT => Ok(TarSplitEntry::Segment(payload)),
        FILE => {
            let name = match line.name_raw.as_str() {
                "" => line.name.into_bytes(),
                raw => decode(raw, "a name is no base64")?,
            };
            let crc = match line.size {
                0 => 0,
                _ => u64::from_be_bytes(
                    payload
                        .try_into()
                        .map_err(|_| TarSplitError::Line("a checksum has not 8 bytes"))?,
                ),
            };
            let content = FileContent {
                size: line.size,
                crc,
            };
            Ok(TarSplitEntry::File { name, content })
        }
        _ => Err(TarSplitError::Line("an entry has an unknown type")),
    }
}
