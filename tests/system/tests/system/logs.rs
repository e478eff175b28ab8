//! Container logs under torture: nothing is lost and nothing changes place, however it is written, read and rotated.

mod full_disk;
mod journal;
mod torture;

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One record of a log in the CRI format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record<'a> {
    stream: &'a [u8],
    /// Whether the line ends here.
    full: bool,
    content: &'a [u8],
}

/// Takes a log apart; every byte of it has to belong to a record.
fn records(log: &[u8]) -> Result<Vec<Record<'_>>> {
    let mut found = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let shown = || String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        let body = line.strip_suffix(b"\n");
        let body = body.with_context(|| format!("a record without an end: {}", shown()))?;
        let mut fields = body.splitn(4, |byte| *byte == b' ');
        let parts = [(); 4].map(|()| fields.next());
        let [Some(time), Some(stream), Some(tag), Some(content)] = parts else {
            anyhow::bail!("not a record: {}", shown());
        };
        let plausible = time.len() == 35 && time[10] == b'T';
        ensure!(
            plausible
                && [&b"stdout"[..], b"stderr"].contains(&stream)
                && [&b"F"[..], b"P"].contains(&tag),
            "not a record: {}",
            shown()
        );
        let full = tag == b"F";
        found.push(Record {
            stream,
            full,
            content,
        });
    }
    Ok(found)
}

/// What one stream of a log says.
fn content(log: &[u8], stream: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for record in records(log)? {
        if record.stream == stream.as_bytes() {
            text.extend_from_slice(record.content);
            if record.full {
                text.push(b'\n');
            }
        }
    }
    Ok(text)
}

/// Bytes that look random and are the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    // Of Marsaglia's xorshift generators; it must only not repeat soon.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read `{}`", path.display()))
}
