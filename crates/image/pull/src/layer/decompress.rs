//! From a blob to the tar in it. What it is, is told by its first bytes: media types lie.

use std::io::{self, BufReader, Cursor, Read};

use crioxide_store::Compression;

/// Buffer in front of the decompressor (bytes).
const BUFFER: usize = 256 << 10;
/// Longest sequence that tells a compression (bytes).
const MAGIC: u64 = 6;
/// Memory that a zstd frame may ask for, as a power of two (128 MiB).
const MAX_ZSTD_WINDOW: u32 = 27;

/// Told from the first bytes of a blob.
pub(crate) fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        // A skippable frame can come first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// The tar inside `blob`, and how it was compressed.
pub(crate) fn decompress<'a>(
    mut blob: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut head = Vec::new();
    (&mut blob).take(MAGIC).read_to_end(&mut head)?;
    let compression = detect(&head);
    let blob = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(blob));
    let tar: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Compression::Bzip2 | Compression::Xz => {
            let reason = format!("{compression:?} compression is not built yet");
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
    };
    Ok((compression, tar))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(blob: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut tar) = decompress(blob)?;
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes)?;
        Ok((compression, bytes))
    }

    #[test]
    fn every_member_and_frame_is_read() {
        let gz = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(
            plain(&gz).unwrap(),
            (Compression::Gzip, b"one two".to_vec())
        );
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let zst = [&frame(b"one ")[..], &skippable, &frame(b"two"), &skippable].concat();
        assert_eq!(
            plain(&zst).unwrap(),
            (Compression::Zstd, b"one two".to_vec())
        );
        assert_eq!(
            plain(b"plain").unwrap(),
            (Compression::None, b"plain".to_vec())
        );
        assert_eq!(plain(b"").unwrap(), (Compression::None, Vec::new()));
    }

    #[test]
    fn damage_is_an_error() {
        let gz = gzip(&[7; 10_000]);
        assert!(plain(&gz[..gz.len() - 4]).is_err());
        assert!(plain(&[&gz[..], b"trailing"].concat()).is_err());
        assert!(plain(b"BZh91AY").unwrap_err().to_string().contains("Bzip2"));
    }
}
