//! Cutting what was read into records.

/// Most bytes of content in one record. conmon's are never longer, and collectors of logs have limits of their own.
pub(super) const LONGEST: usize = 8192;

/// One line, or part of one, of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Content, without its newline.
    pub(super) content: &'a [u8],
    /// Whether the line ends here.
    pub(super) full: bool,
}

/// The records of one read: every line, long ones in parts, then the rest without a newline as a part.
///
/// A newline alone after a part gives an empty full record, which ends the line.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (near, _) = bytes.split_at(bytes.len().min(LONGEST));
        let record = match memchr::memchr(b'\n', near) {
            Some(end) => {
                let record = Record {
                    content: &bytes[..end],
                    full: true,
                };
                bytes = &bytes[end + 1..];
                record
            }
            None => {
                bytes = &bytes[near.len()..];
                Record {
                    content: near,
                    full: false,
                }
            }
        };
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Vec<(&[u8], bool)> {
        records(bytes)
            .map(|record| (record.content, record.full))
            .collect()
    }

    #[test]
    fn lines_and_rests() {
        assert_eq!(of(b""), []);
        assert_eq!(of(b"\n"), [(&b""[..], true)]);
        assert_eq!(of(b"a\nb"), [(&b"a"[..], true), (b"b", false)]);
        assert_eq!(
            of(b"a\n\nb\n"),
            [(&b"a"[..], true), (b"", true), (b"b", true)]
        );
    }

    #[test]
    fn long_lines_come_in_parts() {
        let text = [
            &[b'x'; 2 * LONGEST + 1][..],
            b"\n",
            &[b'y'; LONGEST],
            b"\nz",
        ]
        .concat();
        let lengths: Vec<_> = records(&text)
            .map(|record| (record.content.len(), record.full))
            .collect();
        let expected = [
            (LONGEST, false),
            (LONGEST, false),
            (1, true),
            (LONGEST, false),
            (0, true),
            (1, false),
        ];
        assert_eq!(lengths, expected);
    }

    /// However the output is cut into reads, joining parts until a full record gives the lines back.
    #[test]
    fn any_cutting_keeps_the_text() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |bound: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        for _ in 0..500 {
            let text: Vec<u8> = (0..random(400))
                .map(|_| {
                    if random(6) == 0 {
                        b'\n'
                    } else {
                        b'a' + random(26) as u8
                    }
                })
                .collect();
            let mut joined = Vec::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (read, left) = rest.split_at(1 + random(rest.len() as u64) as usize);
                for record in records(read) {
                    joined.extend_from_slice(record.content);
                    if record.full {
                        joined.push(b'\n');
                    }
                }
                rest = left;
            }
            assert_eq!(joined, text);
        }
    }
}
