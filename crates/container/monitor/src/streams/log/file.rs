//! The log file: writing records, starting anew, reopening, and living through a full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use super::journal::Journal;
use super::prefix::{Prefixes, Stream};
use super::records::{Record, records};

/// Kept while the disk takes nothing; more is lost, and counted.
const BACKLOG_LIMIT: usize = 64 * 1024;

/// Slices of one gathered write: as many as the kernel takes.
const GATHERED: usize = 1024;

/// An open CRI log. Writing never fails towards the container: it must not be stopped by a full disk.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    size_max: Option<u64>,
    /// Bytes owed to the file: whole records, or after the rest of one that could not be taken back.
    backlog: Vec<u8>,
    lost: u64,
    /// Gets a copy.
    journal: Option<Journal>,
}

impl LogFile {
    /// Opens the file at `path` for appending, or makes it.
    pub(crate) fn open(path: &Path, size_max: Option<u64>) -> io::Result<Self> {
        let file = open(path)?;
        // conmon counts what it wrote itself, so a container's limit starts with its monitor.
        let log = Self {
            path: path.into(),
            file: Some(file),
            size: 0,
            size_max,
            backlog: Vec::new(),
            lost: 0,
            journal: None,
        };
        Ok(log)
    }

    /// From now on everything is sent to the journal as well.
    pub(crate) fn copy_to(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// Writes what was read from the container at `time`.
    pub(crate) fn write(&mut self, stream: Stream, time: SystemTime, bytes: &[u8]) {
        if let Some(journal) = &mut self.journal {
            journal.write(stream, bytes);
        }
        let full = Prefixes::new(time, stream);
        let partial = full.partial();
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(GATHERED.min(bytes.len() / 16 + 3));
        let mut gathered = 0;
        for record in records(bytes) {
            let prefix = if record.full {
                full.full()
            } else {
                partial.full()
            };
            let length = (prefix.len() + record.content.len() + 1) as u64;
            if self
                .size_max
                .is_some_and(|max| self.size + gathered + length > max)
            {
                self.flush(&mut slices);
                gathered = 0;
                self.start_anew();
            } else if slices.len() + 3 > GATHERED {
                self.flush(&mut slices);
                gathered = 0;
            }
            slices.push(IoSlice::new(prefix));
            push_content(&mut slices, bytes, record);
            gathered += length;
        }
        self.flush(&mut slices);
    }

    /// Opens the path again, after it was renamed.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.retry_file();
        let file = open(&self.path)?;
        self.file = Some(file);
        self.size = 0;
        Ok(())
    }

    /// Tries to write what the disk or the journal did not take before. `false` when something is still owed.
    pub(crate) fn retry(&mut self) -> bool {
        let sent = self.journal.as_mut().is_none_or(Journal::retry);
        self.retry_file() && sent
    }

    fn retry_file(&mut self) -> bool {
        let Some(file) = &mut self.file else {
            return self.backlog.is_empty();
        };
        let mut taken = 0;
        while taken < self.backlog.len() {
            match file.write(&self.backlog[taken..]) {
                Ok(count) if count > 0 => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        if taken == self.backlog.len() {
            self.backlog = Vec::new();
        } else {
            taken -= take_back(file, torn_bytes(&[IoSlice::new(&self.backlog)], taken));
            self.backlog.drain(..taken);
        }
        self.size += taken as u64;
        self.backlog.is_empty()
    }

    /// Whether something is owed to the file or the journal.
    pub(crate) fn is_behind(&self) -> bool {
        !self.backlog.is_empty() || self.journal.as_ref().is_some_and(Journal::is_behind)
    }

    /// Bytes of records that had to be dropped so far.
    #[cfg(test)]
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Removes the file, when the container it was for does not come to be.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Flushes the file to the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.retry();
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    fn flush(&mut self, slices: &mut Vec<IoSlice<'_>>) {
        if !slices.is_empty() {
            let whole: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = if self.retry_file() {
                self.write_gathered(slices)
            } else {
                0
            };
            self.size += written as u64;
            if written < whole {
                self.owe(slices, written);
            }
            slices.clear();
        }
    }

    /// Number of bytes written: all of them, unless the disk refuses.
    fn write_gathered(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let Some(file) = &mut self.file else { return 0 };
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = 0;
        while written < whole {
            let result = if written == 0 {
                file.write_vectored(slices)
            } else {
                let (index, offset) = position(slices, written);
                file.write(&slices[index][offset..])
            };
            match result {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        if written < whole {
            written -= take_back(file, torn_bytes(slices, written));
        }
        written
    }

    /// Keeps as many of the unwritten records as there is room for, and the rest of one that is in the file by half: half a
    /// record helps nobody.
    fn owe(&mut self, slices: &[IoSlice<'_>], written: usize) {
        let (mut skip, before) = (written, self.backlog.len());
        for slice in slices {
            let from = skip.min(slice.len());
            skip -= from;
            self.backlog.extend_from_slice(&slice[from..]);
        }
        let Some(excess) = self.backlog.len().checked_sub(BACKLOG_LIMIT) else {
            return;
        };
        let rest = &self.backlog[before..];
        let room = rest.len().saturating_sub(excess);
        let fitting = memchr::memrchr(b'\n', &rest[..room]).map_or(0, |end| end + 1);
        let torn = match torn_bytes(slices, written) {
            0 => 0,
            _ => memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1),
        };
        let kept = fitting.max(torn);
        self.lost += (rest.len() - kept) as u64;
        self.backlog.truncate(before + kept);
    }

    /// A fresh file takes the place of the full one, whose content is lost: what `log_size_max` means.
    fn start_anew(&mut self) {
        self.backlog.clear();
        self.size = 0;
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let temporary = self.path.with_file_name(name);
        let anew = || -> io::Result<File> {
            let _ = std::fs::remove_file(&temporary);
            let file = open(&temporary)?;
            std::fs::rename(&temporary, &self.path)?;
            Ok(file)
        };
        match anew() {
            Ok(file) => self.file = Some(file),
            // The old file can still be emptied, which needs no space.
            Err(_) => {
                let _ = std::fs::remove_file(&temporary);
                if let Some(file) = &self.file {
                    let _ = file.set_len(0);
                }
            }
        }
    }
}

/// Of the first `written` bytes, those after the last whole record. A record ends with the only newline in it.
fn torn_bytes(slices: &[IoSlice<'_>], written: usize) -> usize {
    let (mut at, mut whole) = (0, 0);
    for slice in slices {
        let bytes = &slice[..slice.len().min(written - at)];
        if let Some(newline) = memchr::memrchr(b'\n', bytes) {
            whole = at + newline + 1;
        }
        at += bytes.len();
    }
    at - whole
}

/// Takes half a record off the end of the file, for which a full disk has no objection: it must not stay there if the
/// file is rotated meanwhile. Number of bytes taken back; none of them if that fails.
fn take_back(file: &File, torn: usize) -> usize {
    let shorten = || {
        let length = file.metadata()?.len();
        let shorter = length.checked_sub(torn as u64);
        file.set_len(shorter.ok_or(io::ErrorKind::UnexpectedEof)?)
    };
    if torn > 0 && shorten().is_err() {
        return 0;
    }
    torn
}

/// Content with its newline in one slice where the two stand together in the read.
fn push_content<'a>(slices: &mut Vec<IoSlice<'a>>, bytes: &'a [u8], record: Record<'a>) {
    if record.full {
        let start = record.content.as_ptr() as usize - bytes.as_ptr() as usize;
        slices.push(IoSlice::new(&bytes[start..=start + record.content.len()]));
    } else {
        slices.push(IoSlice::new(record.content));
        slices.push(IoSlice::new(b"\n"));
    }
}

/// Slice index and offset of the byte number `at`.
fn position(slices: &[IoSlice<'_>], mut at: usize) -> (usize, usize) {
    for (index, slice) in slices.iter().enumerate() {
        if at < slice.len() {
            return (index, at);
        }
        at -= slice.len();
    }
    (slices.len().saturating_sub(1), 0)
}

/// No symlink is followed at the end of the path: the log directory may be writable to others than root.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32 | OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the log path is not a regular file",
        ));
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o640))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
