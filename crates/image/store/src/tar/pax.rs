//! PAX extension records: `<length> <key>=<value>\n`.

use super::entry::Time;
use super::number::decimal;

/// Most extended attributes of one entry; file systems can keep far fewer.
const MAX_XATTRS: usize = 1024;

/// The records that matter here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<Time>,
    pub(super) accessed: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// The sparse records of GNU tar, version 0.0, 0.1 or 1.0.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Extents in the map of 0.0 and 0.1, which is told first.
    pub(super) extents: Option<u64>,
    /// Alternating offsets and lengths, of 0.0 and 0.1.
    pub(super) map: Vec<u64>,
}

impl Pax {
    /// Parses a whole extension header; the error says what is wrong.
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let blank = records
                .iter()
                .take(20)
                .position(|&byte| byte == b' ')
                .ok_or("a PAX record has no length")?;
            let length =
                decimal(&records[..blank]).ok_or("the length of a PAX record is no number")?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > records.len() || length < blank + 3 {
                return Err("the length of a PAX record is wrong");
            }
            let (record, rest) = records.split_at(length);
            let body = record[blank + 1..]
                .strip_suffix(b"\n")
                .ok_or("a PAX record does not end with its line")?;
            let equals = body
                .iter()
                .position(|&byte| byte == b'=')
                .ok_or("a PAX record has no value")?;
            pax.set(&body[..equals], &body[equals + 1..])?;
            records = rest;
        }
        if pax.sparse.map.len() % 2 != 0 {
            return Err("a sparse map has an offset without a length");
        }
        let extents = (pax.sparse.map.len() / 2) as u64;
        if extents > 0 && pax.sparse.extents != Some(extents) {
            return Err("a sparse map has not as many extents as it says");
        }
        Ok(pax)
    }

    /// Whether none of the records matters.
    pub(super) fn says_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if key.is_empty() || key.contains(&0) {
            return Err("a PAX key is empty or holds a NUL");
        }
        let number = || decimal(value).ok_or("a PAX value is no number");
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.set_xattr(name, value);
        }
        // It takes back what a global header said; some readers then take the value itself.
        let names_something = matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
        if value.is_empty() && names_something {
            return Err("a PAX name is empty");
        }
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.modified = Some(time(value).ok_or("a PAX time is malformed")?),
            b"atime" => self.accessed = Some(time(value).ok_or("a PAX time is malformed")?),
            b"GNU.sparse.major" => self.sparse.major = Some(number()?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(number()?),
            b"GNU.sparse.name" => self.sparse.name = Some(name(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(number()?),
            b"GNU.sparse.numblocks" if self.sparse.map.is_empty() => {
                self.sparse.extents = Some(number()?)
            }
            b"GNU.sparse.numblocks" => return Err("a sparse map is out of order"),
            b"GNU.sparse.map" => {
                for item in value.split(|&byte| byte == b',') {
                    self.sparse.map.push(
                        decimal(item).ok_or("a sparse map holds something else than numbers")?,
                    );
                }
            }
            b"GNU.sparse.offset" if self.sparse.map.len().is_multiple_of(2) => {
                self.sparse.map.push(number()?)
            }
            b"GNU.sparse.numbytes" if self.sparse.map.len() % 2 == 1 => {
                self.sparse.map.push(number()?)
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                return Err("a sparse map is out of order");
            }
            _ => {}
        }
        Ok(())
    }
}

impl Pax {
    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // GNU tar writes and reads these for `=` and `%`, others do not.
        let escaped = |three: &[u8]| three == b"%3D" || three == b"%25";
        if name.windows(3).any(escaped) {
            return Err("the name of an extended attribute is escaped");
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() == MAX_XATTRS {
            return Err("more extended attributes than the limit of 1024");
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

fn name(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.contains(&0) {
        Err("a name holds a NUL")
    } else {
        Ok(value.to_vec())
    }
}

/// Decimal seconds with an optional sign and fraction.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|&byte| byte == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, at| sum * 10 + digit(at));
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds,
        },
        // Nanoseconds count forward from the second before.
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_strict() {
        assert!(Pax::parse(b"12 path=a/b\n21 SCHILY.xattr.u=v\n8 size=\n").is_err());
        let pax = Pax::parse(b"12 path=a/b\n20 SCHILY.xattr.u=v\n8 size=\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.xattrs, [(b"u".to_vec(), b"v".to_vec())]);
        assert_eq!(pax.size, None);
        for bad in [
            &b"99 path=a\n"[..],
            b"path=a\n",
            b"10 path=ab",
            b"9 path=\0\n",
            b"12 size=-100\n",
            b"3 \n",
        ] {
            assert!(Pax::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_signs_and_fractions() {
        assert_eq!(
            time(b"12.5"),
            Some(Time {
                seconds: 12,
                nanoseconds: 500_000_000
            })
        );
        assert_eq!(
            time(b"-1.25"),
            Some(Time {
                seconds: -2,
                nanoseconds: 750_000_000
            })
        );
        assert_eq!(
            time(b"1.1234567899"),
            Some(Time {
                seconds: 1,
                nanoseconds: 123_456_789
            })
        );
        assert_eq!(time(b"1e3"), None);
    }
}
