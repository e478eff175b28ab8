//! Finding the authority in a compressed header block (RFC 7541, section 6).
//!
//! Only where fields begin and end matters, which every block tells by itself; the tables of the compression are left
//! to the HTTP library.

use std::ops::Range;

/// Index of the name `:authority` in the static table.
const AUTHORITY: usize = 1;

/// The string `l`: a host name that is not longer than what it replaces. A longer one would push out an entry of the
/// HTTP library's table that the client still counts on.
pub(super) const REPLACEMENT: [u8; 2] = [1, b'l'];

/// Where the authority's value stands, with its length before it; `None` when the block names it only by an index of
/// the table, in which an earlier one was replaced, or not at all.
pub(super) fn authority(block: &[u8]) -> Option<Range<usize>> {
    let mut rest = Cursor { block, at: 0 };
    while let Some(&first) = block.get(rest.at) {
        let name = match first {
            0x80.. => {
                rest.integer(7)?;
                continue;
            }
            0x20..0x40 => {
                rest.integer(5)?;
                continue;
            }
            0x40.. => rest.integer(6)?,
            _ => rest.integer(4)?,
        };
        let named = match name {
            0 => rest.string()? == b":authority",
            index => index == AUTHORITY,
        };
        let start = rest.at;
        let value = rest.string()?;
        if named && !value.is_empty() {
            return Some(start..rest.at);
        }
    }
    None
}

struct Cursor<'a> {
    block: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// An integer in the low `bits` of the next byte and those that follow it (section 5.1).
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let mask = (1 << bits) - 1;
        let mut value = usize::from(*self.block.get(self.at)?) & mask;
        self.at += 1;
        if value < mask {
            return Some(value);
        }
        // Four more bytes are far more than a block has.
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(*self.block.get(self.at)?);
            self.at += 1;
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string as it is stored, which may be Huffman-coded (section 5.2).
    fn string(&mut self) -> Option<&[u8]> {
        let length = self.integer(7)?;
        let start = self.at;
        self.at += length;
        self.block.get(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_value_behind_other_fields() {
        // A table size update, an indexed field, a literal with its own name, and a long literal without indexing.
        let mut block = b"\x3f\xe1\x1f\x83\x40\x02te\x08trailers\x04".to_vec();
        block.extend_from_slice(&[0x7f, 0x49]);
        block.extend_from_slice(&[b'p'; 0x7f + 0x49]);
        let start = block.len() + 1;
        for kind in [0x41, 0x01, 0x11] {
            let mut block = block.clone();
            block.extend_from_slice(&[kind, 3]);
            block.extend_from_slice(b"a/b\x86");
            assert_eq!(authority(&block), Some(start..start + 4), "{kind:#x}");
        }
        // C core spells the name out.
        let mut spelled = block.clone();
        spelled.extend_from_slice(b"\x40\x0a:authority\x03a%b\x86");
        assert_eq!(authority(&spelled), Some(start + 11..start + 15));
        // Huffman-coded: the length is that of the code.
        block.extend_from_slice(&[0x41, 0x82, 0xaa, 0xbb]);
        assert_eq!(authority(&block), Some(start..start + 3));
    }

    #[test]
    fn finds_nothing_where_nothing_is() {
        for block in [
            b"".as_slice(),
            b"\x83\xbe",
            b"\x41\x00",
            b"\x41\x05abc",
            b"\x41",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x40",
        ] {
            assert_eq!(authority(block), None, "{block:?}");
        }
    }
}
