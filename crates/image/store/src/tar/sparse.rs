//! Maps of sparse files.

use super::header::BLOCK;
use super::number;

/// A run of stored bytes in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What ext4 can keep; others would take exabytes that nothing can read (bytes).
const MAX_SIZE: u64 = 16 << 40;

/// Turns alternating offsets and lengths into extents.
pub(super) fn pairs(numbers: &[u64]) -> Vec<Extent> {
    numbers
        .chunks_exact(2)
        .map(|pair| Extent {
            offset: pair[0],
            length: pair[1],
        })
        .collect()
}

/// Adds the extents of an old GNU map field, 24 bytes each, up to the first empty one.
pub(super) fn gnu_extents(field: &[u8], into: &mut Vec<Extent>) -> Result<(), &'static str> {
    for slot in field.chunks_exact(24) {
        if slot[0] == 0 {
            break;
        }
        let part =
            |bytes: &[u8]| number::parse(bytes).and_then(|number| u64::try_from(number).ok());
        let (Some(offset), Some(length)) = (part(&slot[..12]), part(&slot[12..])) else {
            return Err("a sparse map holds something else than numbers");
        };
        into.push(Extent { offset, length });
    }
    Ok(())
}

/// Extents must ascend without overlap, end where the file ends and account for every stored byte.
///
/// GNU tar begins each extent in a block of its own and ends the file with the last one; Go takes the bytes one after the
/// other and the size from elsewhere. What they write is the same to both.
pub(super) fn check(extents: &[Extent], size: u64, stored: u64) -> Result<(), &'static str> {
    if size > MAX_SIZE {
        return Err("a sparse file larger than the limit of 16 TiB");
    }
    let mut end = 0_u64;
    let mut total = 0_u64;
    for extent in extents {
        if extent.offset < end {
            return Err("a sparse map goes backwards");
        }
        if extent.length > 0 && !total.is_multiple_of(BLOCK as u64) {
            return Err("a sparse map has a part of a block before its end");
        }
        end = extent
            .offset
            .checked_add(extent.length)
            .ok_or("a sparse map overflows")?;
        total += extent.length;
    }
    if end > size {
        return Err("a sparse map goes past the end of its file");
    }
    if end < size {
        return Err("a sparse map ends before its file");
    }
    if total != stored {
        return Err("a sparse map does not fit its content");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_lie_are_refused() {
        let map = pairs(&[0, 512, 1000, 24, 1024, 0]);
        assert!(check(&map[..2], 1024, 536).is_ok());
        assert!(check(&map[..2], 1023, 536).is_err());
        assert!(check(&map[..2], 1025, 536).is_err());
        assert!(check(&map[..2], 1024, 537).is_err());
        assert!(check(&map, 1024, 536).is_ok());
        assert!(check(&pairs(&[0, 10, 100, 20]), 120, 30).is_err());
        assert!(check(&pairs(&[1000, 512, 50, 10]), 1512, 522).is_err());
        assert!(check(&[], 0, 0).is_ok());
        assert!(check(&pairs(&[u64::MAX, 10]), u64::MAX, 10).is_err());
    }
}
