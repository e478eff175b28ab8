//! Archives of which every byte can be wrong.

/// A header block, at first a plain ustar one of root's.
#[derive(Clone)]
pub(crate) struct Header([u8; 512]);

/// An archive being written.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Header {
    pub(crate) fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        let mut block = [0; 512];
        block[156] = flag;
        let header = Self(block)
            .bytes(0, name)
            .bytes(257, "ustar\x0000")
            .number(329..337, 0)
            .number(337..345, 0)
            .time(1_600_000_000)
            .size(0);
        let mode = if flag == b'5' { 0o755 } else { 0o644 };
        header.number(100..108, mode).owner(0, 0)
    }

    /// A regular file that `content` is to follow.
    pub(crate) fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        Self::new(b'0', name).size(content.len() as u64)
    }

    pub(crate) fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.bytes(157, target)
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.number(124..136, size)
    }

    pub(crate) fn time(self, time: u64) -> Self {
        self.number(136..148, time)
    }

    pub(crate) fn owner(self, user: u64, group: u64) -> Self {
        self.number(108..116, user).number(116..124, group)
    }

    pub(crate) fn mode(self, mode: u64) -> Self {
        self.number(100..108, mode)
    }

    pub(crate) fn device(self, major: u64, minor: u64) -> Self {
        self.number(329..337, major).number(337..345, minor)
    }

    pub(crate) fn gnu(self) -> Self {
        self.bytes(257, "ustar  \0")
    }

    /// Without a magic number.
    pub(crate) fn v7(self) -> Self {
        self.bytes(257, [0; 8])
    }

    /// Octal with a NUL behind it, as far as the field reaches.
    pub(crate) fn number(self, field: std::ops::Range<usize>, value: u64) -> Self {
        let text = format!("{value:0width$o}\0", width = field.len() - 1);
        assert!(text.len() == field.len(), "{value:o} does not fit");
        self.bytes(field.start, text)
    }

    /// Base 256, negative if it is.
    pub(crate) fn binary(self, field: std::ops::Range<usize>, value: i128) -> Self {
        let bytes = value.to_be_bytes();
        let mut field_bytes = bytes[bytes.len() - field.len()..].to_vec();
        field_bytes[0] = 0x80 | (field_bytes[0] & 0x7f);
        self.bytes(field.start, field_bytes)
    }

    pub(crate) fn bytes(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn sum(&self, of: impl Fn(u8) -> i64) -> i64 {
        let counted = |(at, &byte): (usize, &u8)| match (148..156).contains(&at) {
            true => i64::from(b' '),
            false => of(byte),
        };
        self.0.iter().enumerate().map(counted).sum()
    }
}

impl Tar {
    /// Adds an entry, its checksum made right.
    pub(crate) fn add(self, header: Header, content: &[u8]) -> Self {
        let sum = header.sum(i64::from);
        self.summed(header, sum, content)
    }

    /// As old writers summed up: bytes with signs.
    pub(crate) fn add_signed(self, header: Header, content: &[u8]) -> Self {
        let sum = header.sum(|byte| i64::from(byte.cast_signed()));
        self.summed(header, sum, content)
    }

    pub(crate) fn summed(mut self, header: Header, sum: i64, content: &[u8]) -> Self {
        let header = header.bytes(148, format!("{sum:06o}\0 "));
        self.0.extend_from_slice(&header.0);
        self.raw(content).padded()
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.add(Header::file(name, content), content)
    }

    pub(crate) fn directory(self, name: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'5', name), b"")
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'2', name).mode(0o777).link(target), b"")
    }

    pub(crate) fn hard(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'1', name).link(target), b"")
    }

    /// A PAX header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        self.extension(b'x', &pax_records(records))
    }

    /// A PAX header for all that follows.
    pub(crate) fn global(self, records: &[(&str, &str)]) -> Self {
        self.extension(b'g', &pax_records(records))
    }

    /// GNU's long name (`L`) or long link target (`K`) of the next entry.
    pub(crate) fn long(self, flag: u8, name: impl AsRef<[u8]>) -> Self {
        let name = [name.as_ref(), b"\0"].concat();
        let header = Header::file("././@LongLink", &name).gnu();
        self.add(header.bytes(156, [flag]), &name)
    }

    pub(crate) fn extension(self, flag: u8, content: &[u8]) -> Self {
        let header = Header::file("PaxHeaders/x", content).bytes(156, [flag]);
        self.add(header, content)
    }

    /// A sparse file of GNU's PAX version 1.0, whose map may lie.
    pub(crate) fn sparse(self, name: &str, size: u64, map: &str, data: &[u8]) -> Self {
        let mut content = map.as_bytes().to_vec();
        content.resize(content.len().next_multiple_of(512), 0);
        content.extend_from_slice(data);
        let size = size.to_string();
        self.pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", name),
            ("GNU.sparse.realsize", &size),
        ])
        .file("GNUSparseFile.0/x", content)
    }

    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    fn padded(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// With the two empty blocks that end an archive.
    pub(crate) fn end(self) -> Vec<u8> {
        self.raw([0; 1024]).0
    }

    pub(crate) fn without_end(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn pax_records(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        format!("{length} {key}={value}\n").into_bytes()
    };
    records.iter().flat_map(record).collect()
}
