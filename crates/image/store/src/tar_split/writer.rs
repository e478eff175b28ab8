//! Writing tar-split files.

use super::{FILE, Line, SEGMENT};
use crate::records::go_json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};

/// Longer segments are cut.
const MAX_SEGMENT: usize = 64 << 10;

/// Collects raw bytes and file references in archive order.
pub(crate) struct TarSplitWriter {
    output: GzEncoder<BufWriter<File>>,
    segment: Vec<u8>,
    /// The line being put together.
    line: Vec<u8>,
    position: u64,
    /// Keyed hashes of the names so far, and whether the file had content.
    seen: HashMap<(u64, u64), bool>,
    hashers: [RandomState; 2],
}

/// The archive names one path twice, and reproducing it would need the content of both.
#[derive(Debug)]
pub(crate) struct DuplicatePath;

impl TarSplitWriter {
    pub(crate) fn new(file: File) -> Self {
        let output = GzEncoder::new(
            BufWriter::with_capacity(64 << 10, file),
            Compression::fast(),
        );
        let hashers = [RandomState::new(), RandomState::new()];
        Self {
            output,
            segment: Vec::new(),
            line: Vec::new(),
            position: 0,
            seen: HashMap::new(),
            hashers,
        }
    }

    /// Adds bytes that are not file content.
    pub(crate) fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(MAX_SEGMENT - self.segment.len());
            self.segment.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.segment.len() == MAX_SEGMENT {
                self.flush_segment()?;
            }
        }
        Ok(())
    }

    /// Notes the name of an entry, `cleaned` as the file system sees it, before its content is known.
    ///
    /// Readers refuse a second reference to a path. Entries without content are harmless: `Ok(false)` says that the
    /// reference must be left out.
    pub(crate) fn announce(
        &mut self,
        cleaned: &[u8],
        has_content: bool,
    ) -> Result<bool, DuplicatePath> {
        let key = (
            self.hashers[0].hash_one(cleaned),
            self.hashers[1].hash_one(cleaned),
        );
        match self.seen.insert(key, has_content) {
            None => Ok(true),
            Some(false) if !has_content => Ok(false),
            Some(_) => Err(DuplicatePath),
        }
    }

    /// Adds a reference to a file's content, whose CRC is `crc`.
    pub(crate) fn file(&mut self, name: &[u8], size: u64, crc: u64) -> io::Result<()> {
        self.flush_segment()?;
        let (name, name_raw) = match std::str::from_utf8(name) {
            Ok(text) => (text.to_owned(), String::new()),
            Err(_) => (String::new(), STANDARD.encode(name)),
        };
        let payload = (size > 0).then(|| STANDARD.encode(crc.to_be_bytes()));
        let position = self.position;
        self.line(&Line {
            kind: FILE,
            name,
            name_raw,
            size,
            payload,
            position,
        })
    }

    /// Completes the file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush_segment()?;
        self.output
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(())
    }

    /// Most of the file is segments: each is put together in one buffer.
    fn flush_segment(&mut self) -> io::Result<()> {
        if self.segment.is_empty() {
            return Ok(());
        }
        self.line.clear();
        write!(self.line, r#"{{"type":{SEGMENT},"payload":""#)?;
        let start = self.line.len();
        self.line
            .resize(start + self.segment.len().div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(&self.segment, &mut self.line[start..])
            .map_err(io::Error::other)?;
        self.segment.clear();
        let position = self.position;
        writeln!(self.line, r#"","position":{position}}}"#)?;
        self.position += 1;
        self.output.write_all(&self.line)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.position += 1;
        self.output.write_all(&go_json::to_vec(line)?)?;
        self.output.write_all(b"\n")
    }
}
