//! Walking through an archive as a stream.

use super::entry::{Entry, Kind, Sparse, Time};
use super::extensions::Extensions;
use super::header::{BLOCK, Format, Header};
use super::number::decimal;
use super::{MAX_ENTRIES, MAX_EXTENSION, TarError, sparse};
use std::io;

/// A stream of bytes in pieces.
pub(crate) trait Chunks {
    /// Puts the next piece in the place of what is in `chunk`: nothing at the end.
    fn next(&mut self, chunk: &mut Vec<u8>) -> io::Result<()>;
}

/// Sees the parts of the archive that are not content of plain files.
pub(crate) trait Observer {
    /// Headers, padding, and the stored content of sparse files.
    fn raw(&mut self, bytes: &[u8]) -> Result<(), std::io::Error>;
}

/// A streaming reader. Call [`TarReader::next_entry`], then take all content with [`TarReader::content`], and so on.
pub(crate) struct TarReader<R, O> {
    source: R,
    pub(crate) observer: O,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    entries: u64,
    /// Content of the current entry not taken yet, and the padding behind it.
    remaining: u64,
    padding: u64,
}

impl<R: Chunks, O: Observer> TarReader<R, O> {
    pub(crate) fn new(source: R, observer: O) -> Self {
        Self {
            source,
            observer,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
            entries: 0,
            remaining: 0,
            padding: 0,
        }
    }

    /// Bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry; `None` once, at the end of the archive, when everything up to the end of the stream was read.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.block()? else {
                if extensions.are_there() {
                    return Err(TarError::Truncated {
                        offset: self.offset,
                    });
                }
                self.drain()?;
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(self.limit("number of headers", MAX_ENTRIES));
            }
            let header =
                Header::parse(&block).ok_or_else(|| self.problem("the checksum is wrong"))?;
            let size = header
                .size()
                .ok_or_else(|| self.problem("the size is no number"))?;
            match header.type_flag() {
                flag @ (b'x' | b'g' | b'L' | b'K') => {
                    let content = self.extension(size)?;
                    let taken = extensions.take(flag, content);
                    taken.map_err(|problem| self.problem(problem))?;
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// The next piece of the current entry's content; empty when there is no more.
    pub(crate) fn content(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        self.fill()?;
        let available = (self.end - self.start) as u64;
        let count = available.min(self.remaining) as usize;
        self.remaining -= count as u64;
        self.start += count;
        Ok(&self.buffer[self.start - count..self.start])
    }

    /// As [`TarReader::content`], but `limit` bytes at most, and shown to the observer as raw bytes.
    pub(crate) fn raw_content(&mut self, limit: u64) -> Result<&[u8], TarError> {
        if self.remaining == 0 || limit == 0 {
            return Ok(&[]);
        }
        self.fill()?;
        let available = (self.end - self.start) as u64;
        let count = available.min(self.remaining).min(limit) as usize;
        self.remaining -= count as u64;
        self.start += count;
        let piece = self.start - count..self.start;
        self.observer
            .raw(&self.buffer[piece.clone()])
            .map_err(|source| TarError::Read {
                offset: self.offset,
                source,
            })?;
        Ok(&self.buffer[piece])
    }

    fn entry(&mut self, header: &Header<'_>, extensions: Extensions) -> Result<Entry, TarError> {
        if !header.is_one_way_to_read() {
            return Err(self.problem("the name's prefix is longer than star has place for"));
        }
        let (name, link, pax) = extensions
            .names()
            .map_err(|problem| self.problem(problem))?;
        let name = name.unwrap_or_else(|| header.name());
        let kind = match header.type_flag() {
            0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' if name.ends_with(b"/") => {
                return Err(self.problem("a file is named as a directory"));
            }
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(self.problem("an entry has an unknown type")),
        };
        let id = |extended: Option<u64>, plain: Option<i64>| {
            extended
                .or_else(|| plain.and_then(|id| u64::try_from(id).ok()))
                .and_then(|id| u32::try_from(id).ok())
                // To the system this one means that nothing is to be changed.
                .filter(|&id| id != u32::MAX)
        };
        let number =
            |value: Option<i64>| value.ok_or_else(|| self.problem("a header field is no number"));
        let mut entry = Entry {
            link: link.unwrap_or_else(|| header.link()),
            mode: (number(header.mode())? & 0o7777) as u32,
            uid: id(pax.uid, header.uid())
                .ok_or_else(|| self.problem("the user id is no number from 0 to 2^32-2"))?,
            gid: id(pax.gid, header.gid())
                .ok_or_else(|| self.problem("the group id is no number from 0 to 2^32-2"))?,
            modified: pax.modified.unwrap_or(Time {
                seconds: number(header.modified())?,
                nanoseconds: 0,
            }),
            accessed: pax.accessed,
            device: header.device().unwrap_or_default(),
            xattrs: pax.xattrs,
            stored: 0,
            sparse: None,
            name,
            kind,
        };
        if matches!(kind, Kind::CharDevice | Kind::BlockDevice) && header.device().is_none() {
            return Err(self.problem("a device number is none that the system has"));
        }
        // Whether content follows is where readers disagree. (A hard link may tell its file's size, which none believes.)
        let announced = pax.size.or(header.size()).unwrap_or_default();
        let believed = kind != Kind::HardLink || pax.size.is_some();
        if kind != Kind::File && announced > 0 && believed {
            return Err(self.problem("an entry that is no file has content"));
        }
        if kind == Kind::File {
            let size = pax
                .size
                .or(header.size())
                .ok_or_else(|| self.problem("the size is no number"))?;
            if size > i64::MAX as u64 - BLOCK as u64 {
                return Err(self.problem("the size is impossible"));
            }
            let gnu = header.type_flag() == b'S';
            self.begin_content(size);
            entry.stored = size;
            if gnu {
                self.gnu_sparse(header, &mut entry)?;
            } else {
                self.pax_sparse(pax.sparse, &mut entry)?;
            }
        }
        Ok(entry)
    }

    fn begin_content(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn gnu_sparse(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<(), TarError> {
        if header.format() != Format::Gnu {
            return Err(self.problem("a sparse file outside the GNU format"));
        }
        let (field, mut more, size) = header.gnu_sparse();
        let size = size.ok_or_else(|| self.problem("the size of a sparse file is no number"))?;
        let mut extents = Vec::new();
        sparse::gnu_extents(field, &mut extents).map_err(|problem| self.problem(problem))?;
        let mut read = 0;
        while more {
            let Some(block) = self.any_block()? else {
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            };
            read += BLOCK as u64;
            if read > MAX_EXTENSION {
                return Err(self.limit("size of a sparse map", MAX_EXTENSION));
            }
            sparse::gnu_extents(&block[..504], &mut extents)
                .map_err(|problem| self.problem(problem))?;
            more = block[504] != 0;
        }
        sparse::check(&extents, size, entry.stored).map_err(|problem| self.problem(problem))?;
        entry.sparse = Some(Sparse { extents, size });
        Ok(())
    }

    fn pax_sparse(
        &mut self,
        pax: super::pax::PaxSparse,
        entry: &mut Entry,
    ) -> Result<(), TarError> {
        let extents = match (pax.major, pax.minor) {
            (Some(1), Some(0)) => self.leading_map()?,
            (None | Some(0), None | Some(0 | 1)) if !pax.map.is_empty() => sparse::pairs(&pax.map),
            (None, None) => return Ok(()),
            _ => return Err(self.problem("an unknown version of sparse files")),
        };
        let size = pax
            .size
            .ok_or_else(|| self.problem("a sparse file without its size"))?;
        entry.stored = self.remaining;
        sparse::check(&extents, size, entry.stored).map_err(|problem| self.problem(problem))?;
        if let Some(name) = pax.name {
            entry.name = name;
        }
        entry.sparse = Some(Sparse { extents, size });
        Ok(())
    }

    /// The map that version 1.0 puts in front of the content: decimal numbers in lines, padded to whole blocks.
    fn leading_map(&mut self) -> Result<Vec<sparse::Extent>, TarError> {
        let mut text = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut line_start = 0;
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            if text.len() as u64 >= MAX_EXTENSION {
                return Err(self.limit("size of a sparse map", MAX_EXTENSION));
            }
            if self.remaining < BLOCK as u64 {
                return Err(self.problem("a sparse map is longer than its entry"));
            }
            let mut missing = BLOCK as u64;
            while missing > 0 {
                let piece = self.raw_content(missing)?;
                missing -= piece.len() as u64;
                text.extend_from_slice(piece);
            }
            while let Some(length) = text[line_start..].iter().position(|&byte| byte == b'\n') {
                let line = &text[line_start..line_start + length];
                let value = decimal(line).ok_or_else(|| {
                    self.problem("a sparse map holds something else than numbers")
                })?;
                line_start += length + 1;
                match wanted {
                    None => {
                        wanted = Some(
                            value
                                .checked_mul(2)
                                .ok_or_else(|| self.problem("a sparse map overflows"))?,
                        )
                    }
                    Some(wanted) if (numbers.len() as u64) < wanted => numbers.push(value),
                    Some(_) => break,
                }
                if wanted == Some(numbers.len() as u64) {
                    break;
                }
            }
        }
        Ok(sparse::pairs(&numbers))
    }

    /// Content of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(self.limit("size of an extension header", MAX_EXTENSION));
        }
        self.begin_content(size);
        let mut bytes = Vec::with_capacity(size as usize);
        while (bytes.len() as u64) < size {
            let piece = self.raw_content(u64::MAX)?;
            bytes.extend_from_slice(piece);
        }
        self.skip_rest()?;
        Ok(bytes)
    }

    /// Skips content nobody took, and the padding.
    fn skip_rest(&mut self) -> Result<(), TarError> {
        self.remaining += std::mem::take(&mut self.padding);
        while self.remaining > 0 {
            self.raw_content(u64::MAX)?;
        }
        Ok(())
    }

    /// The next header block; `None` at the end of the stream or at the two zero blocks that end an archive.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let Some(block) = self.any_block()? else {
            return Ok(None);
        };
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        match self.any_block()? {
            Some(second) if second.iter().any(|&byte| byte != 0) => {
                Err(self.problem("a single empty block"))
            }
            _ => Ok(None),
        }
    }

    fn any_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if self.start == self.end && !self.refill()? {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            }
            let count = (BLOCK - filled).min(self.end - self.start);
            block[filled..filled + count]
                .copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            filled += count;
        }
        self.observer.raw(&block).map_err(|source| TarError::Read {
            offset: self.offset,
            source,
        })?;
        Ok(Some(block))
    }

    /// Reads the rest of the stream, which belongs to the digest and to the reproduction.
    fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let rest = self.start..self.end;
            self.observer
                .raw(&self.buffer[rest])
                .map_err(|source| TarError::Read {
                    offset: self.offset,
                    source,
                })?;
            self.start = self.end;
            if !self.refill()? {
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> Result<(), TarError> {
        if self.start == self.end && !self.refill()? {
            return Err(TarError::Truncated {
                offset: self.offset,
            });
        }
        Ok(())
    }

    /// Takes the next piece; `false` at the end of the stream.
    fn refill(&mut self) -> Result<bool, TarError> {
        (self.start, self.end) = (0, 0);
        let next = self.source.next(&mut self.buffer);
        next.map_err(|source| TarError::Read {
            offset: self.offset,
            source,
        })?;
        self.end = self.buffer.len();
        self.offset += self.end as u64;
        Ok(self.end > 0)
    }

    fn problem(&self, problem: &'static str) -> TarError {
        TarError::Header {
            offset: self.offset - (self.end - self.start) as u64,
            problem,
        }
    }

    fn limit(&self, what: &'static str, limit: u64) -> TarError {
        TarError::Limit {
            offset: self.offset - (self.end - self.start) as u64,
            what,
            limit,
        }
    }
}
