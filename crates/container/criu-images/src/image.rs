//! A file of images: its mark, then messages with their lengths.

use std::fs;
use std::path::Path;

use crioxide_files::read_limited;

use crate::error::{FitError, Problem, Refusal};
use crate::wire::Message;

/// Largest file of messages that is looked into (bytes).
const FILE_LIMIT: u64 = 64 << 20;

/// Starts every file but the inventory, before the file's own mark.
const COMMON: u32 = 0x5456_4319;

/// A file of messages.
#[derive(Debug)]
pub(crate) struct Image {
    mark: Vec<u8>,
    pub(crate) messages: Vec<Message>,
}

impl Image {
    pub(crate) fn new(mark: u32, messages: Vec<Message>) -> Self {
        Self {
            mark: [COMMON, mark].map(u32::to_le_bytes).concat(),
            messages,
        }
    }

    pub(crate) fn read(directory: &Path, name: &str) -> Result<Self, FitError> {
        let bytes = contents(directory, name)?;
        Ok(Self::parse(name, &bytes).map_err(named(name))?)
    }

    /// The first message of a file that goes on with something else.
    pub(crate) fn head(directory: &Path, name: &str) -> Result<Message, FitError> {
        let path = directory.join(name);
        let read = || -> std::io::Result<Vec<u8>> {
            use std::io::Read as _;
            let mut bytes = Vec::new();
            fs::File::open(&path)?
                .take(64 << 10)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| FitError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let head = || {
            let (_, rest) = mark(name, &bytes)?;
            Ok(first(rest)?.ok_or("it is empty")?.0)
        };
        Ok(head().map_err(named(name))?)
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<Self, Problem> {
        let (mark, mut rest) = mark(name, bytes)?;
        let mut messages = Vec::new();
        while let Some((message, more)) = first(rest)? {
            messages.push(message);
            rest = more;
        }
        Ok(Self {
            mark: mark.to_vec(),
            messages,
        })
    }

    pub(crate) fn write(&self, directory: &Path, name: &str) -> Result<(), FitError> {
        let mut bytes = self.mark.clone();
        for message in &self.messages {
            let encoded = message.encode();
            let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_le_bytes());
            bytes.extend(encoded);
        }
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(|source| FitError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// The only message.
    pub(crate) fn only(&mut self) -> Result<&mut Message, Problem> {
        match self.messages.as_mut_slice() {
            [message] => Ok(message),
            all => Err(format!("it has {} entries instead of one", all.len())),
        }
    }
}

/// Adds the image's name.
pub(crate) fn named(image: &str) -> impl Fn(Problem) -> Refusal {
    move |problem| Refusal {
        image: image.to_owned(),
        problem,
    }
}

pub(crate) fn contents(directory: &Path, name: &str) -> Result<Vec<u8>, FitError> {
    let path = directory.join(name);
    read_limited(&path, FILE_LIMIT).map_err(|error| FitError::Io {
        action: "read",
        path,
        source: std::io::Error::other(error),
    })
}

fn mark<'b>(name: &str, bytes: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), Problem> {
    let length = if name == "inventory.img" { 4 } else { 8 };
    let (mark, rest) = bytes
        .split_at_checked(length)
        .ok_or("it ends in its first bytes")?;
    if length == 8 && !mark.starts_with(&COMMON.to_le_bytes()) {
        return Err("it does not begin as an image of criu".to_owned());
    }
    Ok((mark, rest))
}

fn first(bytes: &[u8]) -> Result<Option<(Message, &[u8])>, Problem> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let ends = || "it ends within an entry".to_owned();
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(ends)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| ends())?;
    let (message, rest) = rest.split_at_checked(length).ok_or_else(ends)?;
    Ok(Some((Message::parse(message)?, rest)))
}
