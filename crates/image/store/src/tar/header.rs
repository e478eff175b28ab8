//! The 512-byte header block.

use super::number;

/// Size of headers and of the units that content is padded to.
pub(crate) const BLOCK: usize = 512;

/// A header block with a valid checksum.
#[derive(Debug, Clone)]
pub(super) struct Header<'b>(&'b [u8; BLOCK]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    /// ustar and PAX.
    Ustar,
    Star,
    Gnu,
}

impl<'b> Header<'b> {
    /// Checks the checksum, which some writers computed with signed bytes.
    pub(super) fn parse(block: &'b [u8; BLOCK]) -> Option<Self> {
        let stored = number::parse(&block[148..156])?;
        let byte = |index: usize| {
            if (148..156).contains(&index) {
                b' '
            } else {
                block[index]
            }
        };
        let unsigned: i64 = (0..BLOCK).map(|index| i64::from(byte(index))).sum();
        let signed: i64 = (0..BLOCK)
            .map(|index| i64::from(byte(index).cast_signed()))
            .sum();
        (stored == unsigned || stored == signed).then_some(Self(block))
    }

    pub(super) fn format(&self) -> Format {
        match (&self.0[257..263], &self.0[263..265], &self.0[508..512]) {
            (b"ustar\0", _, b"tar\0") => Format::Star,
            (b"ustar\0", _, _) => Format::Ustar,
            (b"ustar ", b" \0", _) => Format::Gnu,
            _ => Format::V7,
        }
    }

    /// The name with the prefix that the format gives it.
    pub(super) fn name(&self) -> Vec<u8> {
        let prefix = match self.format() {
            Format::Ustar => text(&self.0[345..500]),
            Format::Star => text(&self.0[345..476]),
            Format::V7 | Format::Gnu => b"",
        };
        let name = text(&self.0[..100]);
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number::parse(&self.0[100..108])
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number::parse(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number::parse(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<u64> {
        number::parse(&self.0[124..136]).and_then(|size| u64::try_from(size).ok())
    }

    pub(super) fn modified(&self) -> Option<i64> {
        number::parse(&self.0[136..148])
    }

    pub(super) fn device(&self) -> Option<(u32, u32)> {
        if self.format() == Format::V7 {
            return Some((0, 0));
        }
        let part = |field: &[u8], limit| {
            let number = u32::try_from(number::parse(field)?).ok()?;
            (number < limit).then_some(number)
        };
        // As wide as Linux has them: mknod(2) would cut off what is more, and make another device.
        let (major, minor) = (&self.0[329..337], &self.0[337..345]);
        Some((part(major, 1 << 12)?, part(minor, 1 << 20)?))
    }

    /// Whether star and ustar see the same prefix: star has other fields where ustar's prefix ends.
    pub(super) fn is_one_way_to_read(&self) -> bool {
        self.format() != Format::Star || self.0[345..476].contains(&0)
    }

    /// Old GNU sparse map: four extents, whether more follow, and the size of the whole file.
    pub(super) fn gnu_sparse(&self) -> (&'b [u8], bool, Option<u64>) {
        let size = number::parse(&self.0[483..495]).and_then(|size| u64::try_from(size).ok());
        (&self.0[386..482], self.0[482] != 0, size)
    }
}

/// A text field ends at the first NUL, or at its own end.
fn text(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}
