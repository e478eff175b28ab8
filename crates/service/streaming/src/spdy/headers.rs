//! Header blocks: pairs of names and values, compressed over the whole life of a connection.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// Most bytes of a block, decompressed. Ours are a few hundred.
const LIMIT: usize = 64 << 10;

/// Most pairs of a block.
const MOST_PAIRS: usize = 256;

/// Names in lower case, with their values.
pub type Headers = Vec<(String, String)>;

/// The value of a header.
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let found = headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Writes blocks.
#[derive(Debug)]
pub struct Deflater(Compress);

impl Deflater {
    /// At the start of a connection.
    ///
    /// # Errors
    /// The compressor does not take the dictionary.
    pub fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(&dictionary())
            .map_err(io::Error::other)?;
        Ok(Self(compress))
    }

    /// Appends a compressed block.
    ///
    /// # Errors
    /// The compressor fails; the connection is of no use then.
    pub fn encode(&mut self, headers: &Headers, out: &mut Vec<u8>) -> io::Result<()> {
        let mut block = Vec::new();
        let length = |length: usize| (length as u32).to_be_bytes();
        block.extend_from_slice(&length(headers.len()));
        for (name, value) in headers {
            for text in [name, value] {
                block.extend_from_slice(&length(text.len()));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut rest = &block[..];
        loop {
            out.reserve(block.len() + 64);
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, out, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            rest = &rest[(self.0.total_in() - before) as usize..];
            // Room left over means that nothing waits inside.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}

/// Reads blocks.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflater {
    /// The headers in a compressed block.
    ///
    /// # Errors
    /// It is malformed or exceeds a limit. Later blocks cannot be read then.
    pub fn decode(&mut self, block: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            if plain.len() == plain.capacity() {
                plain.reserve(plain.len());
            }
            let before = self.0.total_in();
            let done = self
                .0
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            rest = &rest[(self.0.total_in() - before) as usize..];
            match done {
                Ok(Status::StreamEnd) => {
                    return Err(invalid("a header block ends the compression"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| {
                        invalid("the headers are compressed with another dictionary")
                    })?;
                    continue;
                }
                Err(_) => return Err(invalid("a header block is not compressed as it should be")),
            }
            if plain.len() > LIMIT {
                return Err(invalid("a header block is too large"));
            }
            if rest.is_empty() && plain.len() < plain.capacity() {
                return parse(&plain);
            }
        }
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    let short = || invalid("a header block is shorter than it says");
    let number = |block: &mut &[u8]| {
        let (number, rest) = block.split_first_chunk::<4>().ok_or_else(short)?;
        *block = rest;
        Ok::<_, io::Error>(u32::from_be_bytes(*number) as usize)
    };
    let count = number(&mut block)?;
    if count > MOST_PAIRS {
        return Err(invalid("a header block has too many headers"));
    }
    let mut headers = Headers::with_capacity(count);
    for _ in 0..count {
        let mut text = || {
            let length = number(&mut block)?;
            let (text, rest) = block.split_at_checked(length).ok_or_else(short)?;
            block = rest;
            String::from_utf8(text.to_vec()).map_err(|_| invalid("a header is not text"))
        };
        let name = text()?;
        headers.push((name.to_ascii_lowercase(), text()?));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn blocks_of_one_connection() {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::default());
        let large = "x".repeat(40_000);
        for pairs in [
            headers(&[("streamtype", "error"), ("port", "80")]),
            headers(&[]),
            headers(&[("streamtype", "error"), ("method", "get")]),
            headers(&[("large", &large)]),
            headers(&[("after", "it")]),
        ] {
            let mut block = Vec::new();
            deflater.encode(&pairs, &mut block).unwrap();
            assert_eq!(inflater.decode(&block).unwrap(), pairs);
        }
    }

    #[test]
    fn a_small_block_that_becomes_huge_is_refused() {
        let mut block = Vec::new();
        let bomb = headers(&[("a", &"\0".repeat(10 << 20))]);
        Deflater::new().unwrap().encode(&bomb, &mut block).unwrap();
        assert!(block.len() < 200_000, "{}", block.len());
        assert!(Inflater::default().decode(&block).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Inflater::default().decode(b"nonsense").is_err());
        for bad in [
            &[][..],
            &[0, 0, 0, 1],
            &[0xff; 8],
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = Inflater::default().decode(&bytes);
            let _ = parse(&bytes);
        }
    }
}
