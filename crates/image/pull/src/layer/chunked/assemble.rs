//! The tar of a layer, put together from what is there and what is fetched.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use crioxide_registry::ContentHasher;
use crioxide_store::{Store, TarSplitEntry, TarSplitReader};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::plan::{Origin, Plan};
use super::toc::Chunk;
use crate::layer::decompress::MAX_ZSTD_WINDOW;
use crate::layer::pipe::PipeReader;

/// Compressed bytes that are decompressed at once.
const BUFFER: usize = 64 << 10;

/// A tar as a stream.
pub(super) struct Assembled {
    entries: TarSplitReader<zstd::Decoder<'static, Cursor<Bytes>>>,
    origins: std::vec::IntoIter<Origin>,
    store: Arc<Store>,
    blob: Parts,
    chunk: ChunkReader,
    current: Current,
}

enum Current {
    Between,
    Segment(Cursor<Vec<u8>>),
    Local { file: File, left: u64 },
    Chunks(std::vec::IntoIter<Chunk>),
}

impl Assembled {
    /// `parts` gives the ranges of the plan, one after the other.
    pub(super) fn new(
        tar_split: Bytes,
        plan: Plan,
        parts: PipeReader,
        store: Arc<Store>,
    ) -> io::Result<Self> {
        let decoder = zstd::Decoder::with_buffer(Cursor::new(tar_split))?;
        let blob = Parts {
            position: plan.ranges.first().map_or(0, |range| range.start),
            ranges: plan.ranges.into(),
            parts,
        };
        Ok(Self {
            entries: TarSplitReader::new(decoder),
            origins: plan.origins.into_iter(),
            store,
            blob,
            chunk: ChunkReader::new()?,
            current: Current::Between,
        })
    }

    /// Goes to the next entry; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let entry = self.entries.next_entry().map_err(io::Error::other)?;
        self.current = match entry {
            None => {
                // The feeding side wants to hear that nobody left early.
                self.blob.finish()?;
                return Ok(false);
            }
            Some(TarSplitEntry::Segment(bytes)) => Current::Segment(Cursor::new(bytes)),
            Some(TarSplitEntry::File { content, .. }) if content.size == 0 => Current::Between,
            Some(TarSplitEntry::File { content, .. }) => match self.origins.next() {
                None => return Err(invalid("more files than there are")),
                Some(Origin::Blob(chunks)) => Current::Chunks(chunks.into_iter()),
                Some(Origin::Local(file)) => Current::Local {
                    file: self
                        .store
                        .open_layer_file(&file)
                        .map_err(io::Error::other)?,
                    left: content.size,
                },
            },
        };
        Ok(true)
    }
}

impl Read for Assembled {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.current {
                Current::Between => 0,
                Current::Segment(bytes) => bytes.read(into)?,
                Current::Local { file, left } => {
                    let limit = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len());
                    let count = file.read(&mut into[..limit])?;
                    if count == 0 && *left > 0 {
                        return Err(invalid("a local file is shorter than it was"));
                    }
                    *left -= count as u64;
                    count
                }
                Current::Chunks(chunks) => loop {
                    let count = self.chunk.read(&mut self.blob, into)?;
                    if count > 0 {
                        break count;
                    }
                    match chunks.next() {
                        Some(next) => self.chunk.start(next, &mut self.blob)?,
                        None => break 0,
                    }
                },
            };
            if count > 0 {
                return Ok(count);
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

/// Decompresses and verifies one chunk after the other.
struct ChunkReader {
    decoder: Decoder<'static>,
    input: Vec<u8>,
    taken: usize,
    /// Compressed bytes of the chunk that are not in `input` yet.
    outside: u64,
    /// Bytes of the chunk that are still to come.
    left: u64,
    chunk: Option<(Chunk, ContentHasher)>,
}

impl ChunkReader {
    fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_ZSTD_WINDOW))?;
        Ok(Self {
            decoder,
            input: Vec::new(),
            taken: 0,
            outside: 0,
            left: 0,
            chunk: None,
        })
    }

    fn start(&mut self, chunk: Chunk, blob: &mut Parts) -> io::Result<()> {
        if !chunk.zeros {
            blob.go_to(chunk.place.start)?;
        }
        self.decoder.reinit()?;
        self.input.clear();
        self.taken = 0;
        self.outside = chunk.place.end - chunk.place.start;
        self.left = chunk.size;
        let hasher = ContentHasher::new(chunk.digest.algorithm());
        self.chunk = Some((chunk, hasher));
        Ok(())
    }

    /// The next bytes of the chunk, none at its end.
    fn read(&mut self, blob: &mut Parts, into: &mut [u8]) -> io::Result<usize> {
        let Some((chunk, hasher)) = &mut self.chunk else {
            return Ok(0);
        };
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX);
        let limit = limit.min(into.len());
        let into = &mut into[..limit];
        let mut count = 0;
        if chunk.zeros {
            into.fill(0);
            count = into.len();
        }
        while count == 0 && self.left > 0 {
            if self.taken == self.input.len() && self.outside > 0 {
                let wanted = self.outside.min(BUFFER as u64);
                self.input
                    .resize(usize::try_from(wanted).unwrap_or(BUFFER), 0);
                blob.read_exact(&mut self.input)?;
                self.outside -= wanted;
                self.taken = 0;
            }
            let mut source = InBuffer::around(&self.input[self.taken..]);
            let mut target = OutBuffer::around(&mut *into);
            self.decoder.run(&mut source, &mut target)?;
            count = target.pos();
            self.taken += source.pos();
            if count == 0 && self.taken == self.input.len() && self.outside == 0 {
                return Err(invalid("a chunk is shorter than the table says"));
            }
        }
        hasher.update(&into[..count]);
        self.left -= count as u64;
        if self.left == 0
            && let Some((chunk, hasher)) = self.chunk.take()
            && hasher.finish() != chunk.digest
        {
            return Err(invalid("a chunk has another digest than the table says"));
        }
        Ok(count)
    }
}

/// The fetched parts of the blob, read by positions in it.
struct Parts {
    /// The first one is being read.
    ranges: VecDeque<Range<u64>>,
    position: u64,
    parts: PipeReader,
}

impl Parts {
    /// Goes forward to a position that was fetched.
    fn go_to(&mut self, position: u64) -> io::Result<()> {
        loop {
            let Some(range) = self.ranges.front().cloned() else {
                return Err(invalid("a chunk is where nothing was fetched"));
            };
            if range.contains(&position) {
                if position < self.position {
                    return Err(invalid("chunks are in another order than their files"));
                }
                return self.pass(position - self.position);
            }
            self.pass(range.end - self.position)?;
            self.ranges.pop_front();
            self.position = self.ranges.front().map_or(range.end, |next| next.start);
        }
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.position += into.len() as u64;
        self.parts.read_exact(into)
    }

    fn pass(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.parts).take(count), &mut io::sink())?;
        self.position += passed;
        match passed == count {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads to the end of all.
    fn finish(&mut self) -> io::Result<()> {
        io::copy(&mut self.parts, &mut io::sink()).map(drop)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}
