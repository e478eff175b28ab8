//! Archives made by hand, so that they can also be wrong.

/// A tar being written, owned by the user who runs the tests.
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name.as_bytes(), b'0', mode, "", content);
    }

    pub(super) fn raw_name(&mut self, name: &[u8], content: &[u8]) {
        self.entry(name, b'0', 0o644, "", content);
    }

    pub(super) fn directory(&mut self, name: &str, mode: u32) {
        self.entry(name.as_bytes(), b'5', mode, "", b"");
    }

    pub(super) fn link(&mut self, flag: u8, name: &str, target: &str) {
        self.entry(name.as_bytes(), flag, 0o777, target, b"");
    }

    pub(super) fn gnu_long(&mut self, flag: u8, name: &[u8]) {
        self.entry(b"././@LongLink", flag, 0, "", &[name, b"\0"].concat());
    }

    pub(super) fn pax(&mut self, records: &[(&str, &str)]) {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        self.entry(b"PaxHeaders/x", b'x', 0o644, "", &text);
    }

    pub(super) fn huge_extension(&mut self) {
        self.entry(b"PaxHeaders/x", b'x', 0o644, "", &vec![b'1'; (1 << 20) + 1]);
    }

    pub(super) fn sparse_1_0(&mut self, name: &str, parts: &[(u64, &[u8])], size: u64) {
        let mut map = format!("{}\n", parts.len());
        for (offset, bytes) in parts {
            map.push_str(&format!("{offset}\n{}\n", bytes.len()));
        }
        let mut content = map.into_bytes();
        content.resize(content.len().next_multiple_of(512), 0);
        for (_, bytes) in parts {
            content.extend_from_slice(bytes);
        }
        let size = size.to_string();
        self.pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", name),
            ("GNU.sparse.realsize", &size),
        ]);
        self.file("GNUSparseFile.0/x", 0o644, &content);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    pub(super) fn without_end(self) -> Vec<u8> {
        self.0
    }

    fn entry(&mut self, name: &[u8], flag: u8, mode: u32, link: &str, content: &[u8]) {
        let mut block = [0_u8; 512];
        block[..name.len()].copy_from_slice(name);
        let mut field = |at: usize, text: String| {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        field(100, format!("{mode:07o}"));
        field(108, format!("{:07o}", rustix::process::geteuid().as_raw()));
        field(116, format!("{:07o}", rustix::process::getegid().as_raw()));
        field(124, format!("{:011o}", content.len()));
        field(136, format!("{:011o}", 1_600_000_000));
        field(257, "ustar\0".to_owned() + "00");
        field(157, link.to_owned());
        block[156] = flag;
        set_checksum(&mut block);
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }
}

/// Makes the checksum of every block that looks like a header right again.
pub(super) fn fix_checksums(tar: &mut [u8]) {
    for block in tar.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            set_checksum(block);
        }
    }
}

fn set_checksum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
