//! From a blob to the tar in it. What it is, is told by its first bytes: media types lie.

mod bomb;

use std::io::{self, BufReader, Cursor, Read};

use crioxide_store::Compression;
use lzma_rust2::XzReader;

/// Buffer in front of the decompressor (bytes).
const BUFFER: usize = 256 << 10;
/// Longest sequence that tells a compression (bytes).
const MAGIC: u64 = 6;
/// Memory that a zstd frame may ask for, as a power of two (128 MiB).
pub(super) const MAX_ZSTD_WINDOW: u32 = 27;
/// Memory that an xz block may ask for (KiB); the highest preset needs 65 MiB.
const MAX_XZ_MEMORY: u32 = 160 << 10;

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
    let (blob, taken) = bomb::counted(Cursor::new(head).chain(blob));
    let blob = BufReader::with_capacity(BUFFER, blob);
    let tar: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(blob)),
        Compression::Xz => Box::new(XzReader::new_mem_limit(blob, true, MAX_XZ_MEMORY)),
    };
    Ok((compression, Box::new(bomb::Bounded::new(tar, taken))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// `one two`, by `xz -9`.
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21,
        0x01, 0x1c, 0x00, 0x00, 0x00, 0x10, 0xcf, 0x58, 0xcc, 0x01, 0x00, 0x06, 0x6f, 0x6e, 0x65,
        0x20, 0x74, 0x77, 0x6f, 0x00, 0x00, 0x38, 0x32, 0x64, 0x95, 0x8b, 0x58, 0x23, 0x7c, 0x00,
        0x01, 0x1f, 0x07, 0x16, 0x2e, 0xb8, 0x73, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x04, 0x59, 0x5a,
    ];
    /// `one two`, by `bzip2`.
    const BZ2: &[u8] = &[
        0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x81, 0x84, 0x32, 0x89, 0x00,
        0x00, 0x01, 0x91, 0x80, 0x40, 0x00, 0x02, 0x01, 0x84, 0x80, 0x20, 0x00, 0x21, 0x80, 0x0c,
        0x01, 0x38, 0x35, 0xdc, 0x5d, 0xc9, 0x14, 0xe1, 0x42, 0x42, 0x06, 0x10, 0xca, 0x24,
    ];
    /// `x`, by `xz --lzma2=dict=1GiB`.
    const GREEDY_XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21,
        0x01, 0x24, 0x00, 0x00, 0x00, 0x5e, 0x1f, 0xc7, 0xf9, 0x01, 0x00, 0x00, 0x78, 0x00, 0x00,
        0x00, 0x00, 0x45, 0xae, 0xef, 0x83, 0xf8, 0xee, 0x16, 0x0a, 0x00, 0x01, 0x19, 0x01, 0xa5,
        0x2c, 0x81, 0xcc, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

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
    fn the_old_ways_are_read() {
        let double = |bytes: &[u8]| [bytes, bytes].concat();
        let twice = b"one twoone two".to_vec();
        assert_eq!(
            plain(&double(XZ)).unwrap(),
            (Compression::Xz, twice.clone())
        );
        assert_eq!(plain(&double(BZ2)).unwrap(), (Compression::Bzip2, twice));
        let error = plain(GREEDY_XZ).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }

    #[test]
    fn damage_is_an_error() {
        let gz = gzip(&[7; 10_000]);
        assert!(plain(&gz[..gz.len() - 4]).is_err());
        assert!(plain(&[&gz[..], b"trailing"].concat()).is_err());
        assert!(plain(b"BZh91AY").is_err());
        assert!(plain(&[XZ, b"trailing".as_slice()].concat()).is_err());
        assert!(plain(&XZ[..XZ.len() - 4]).is_err());
        assert!(plain(&BZ2[..BZ2.len() - 4]).is_err());
    }
}
