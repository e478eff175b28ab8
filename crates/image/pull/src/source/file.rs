//! Blobs and small documents in files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

/// Piece size (bytes).
const PIECE: usize = 1 << 20;

/// Why an image in files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadSourceError {
    /// The system says no.
    #[error("read `{}`", path.display())]
    Io {
        /// File, or archive.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A document is not JSON of the right shape.
    #[error("parse `{name}` of `{}`", path.display())]
    Json {
        /// Directory or archive.
        path: PathBuf,
        /// The document.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The image is not in it, or it is not an image.
    #[error("`{}`: {reason}", path.display())]
    Content {
        /// Directory or archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl ReadSourceError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn content(path: &Path, reason: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A part of a file, read off the async threads.
pub(crate) struct FileBlob {
    path: PathBuf,
    reader: Option<Box<dyn Read + Send>>,
}

impl std::fmt::Debug for FileBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBlob")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FileBlob {
    /// The whole file.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadSourceError> {
        let file = File::open(path).map_err(|e| ReadSourceError::io(path, e))?;
        let metadata = file.metadata().map_err(|e| ReadSourceError::io(path, e))?;
        if !metadata.is_file() {
            return Err(ReadSourceError::content(path, "not a regular file"));
        }
        Ok(Self::new(path, Box::new(file)))
    }

    /// `length` bytes of an open file from `offset` on.
    pub(crate) fn part(path: &Path, file: Arc<File>, offset: u64, length: u64) -> Self {
        Self::new(
            path,
            Box::new(PartReader {
                file,
                at: offset,
                end: offset.saturating_add(length),
            }),
        )
    }

    pub(crate) fn new(path: &Path, reader: Box<dyn Read + Send>) -> Self {
        Self {
            path: path.to_owned(),
            reader: Some(reader),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadSourceError> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(None);
        };
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            let result = (&mut reader).take(PIECE as u64).read_to_end(&mut piece);
            result.map(|_| (reader, piece))
        });
        let failed = |e| ReadSourceError::io(&self.path, e);
        let (reader, piece) = read
            .await
            .map_err(std::io::Error::other)
            .map_err(failed)?
            .map_err(failed)?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.reader = Some(reader);
        Ok(Some(piece.into()))
    }
}

/// Reads a part of a file that others read too.
pub(crate) struct PartReader {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    pub(crate) end: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Reads a whole document of at most `limit` bytes.
pub(crate) fn read_document(path: &Path, limit: u64) -> Result<Vec<u8>, ReadSourceError> {
    let file = File::open(path).map_err(|e| ReadSourceError::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| ReadSourceError::io(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(ReadSourceError::content(
            path,
            format!("larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}
