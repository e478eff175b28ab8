//! HTTP/2 frames going by (RFC 9113, section 4): those with headers are held until they are complete.

use super::header_block;

/// What a client sends before its first frame.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Longer frames are handed on as they are: the HTTP library takes none over 16 KiB anyway.
const HELD_MAX: usize = 64 << 10;

/// Where in the stream of frames a connection is.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to hand on unseen.
    unseen: usize,
    /// The frame being collected.
    held: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            unseen: PREFACE,
            held: Vec::new(),
        }
    }
}

impl Frames {
    /// Takes what came in, and appends what goes on to `out`.
    pub(super) fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let (count, target) = match (self.unseen, self.held.len()) {
                (0, held @ 0..FRAME_HEADER) => (FRAME_HEADER - held, &mut self.held),
                (0, held) => (
                    FRAME_HEADER + payload_length(&self.held) - held,
                    &mut self.held,
                ),
                (unseen, _) => (unseen, &mut *out),
            };
            let (now, later) = bytes.split_at(count.min(bytes.len()));
            target.extend_from_slice(now);
            bytes = later;
            if self.unseen > 0 {
                self.unseen -= now.len();
            } else if now.len() == count {
                self.complete(out);
            }
        }
    }

    /// A frame's header, or the whole frame, is held.
    fn complete(&mut self, out: &mut Vec<u8>) {
        let length = payload_length(&self.held);
        if self.held.len() == FRAME_HEADER {
            if self.held[3] == HEADERS && (1..HELD_MAX).contains(&length) {
                return;
            }
            self.unseen = length;
        } else {
            replace_authority(&mut self.held);
        }
        out.append(&mut self.held);
    }
}

fn payload_length(frame: &[u8]) -> usize {
    usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2])
}

fn replace_authority(frame: &mut Vec<u8>) {
    let flags = frame[4];
    let mut start = FRAME_HEADER;
    let mut end = frame.len();
    if flags & PADDED != 0 {
        end = end.saturating_sub(usize::from(frame[start]));
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let Some(value) = frame.get(start..end).and_then(header_block::authority) else {
        return;
    };
    let value = start + value.start..start + value.end;
    frame.splice(value, header_block::REPLACEMENT);
    let length = frame.len() - FRAME_HEADER;
    // Not longer than before, which was 24 bits.
    frame[0] = (length >> 16 & 0xff) as u8;
    frame[1] = (length >> 8 & 0xff) as u8;
    frame[2] = (length & 0xff) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn replaces_authorities_and_nothing_else_however_the_bytes_come() {
        let headers = b"\x83\x41\x05%2Frn\x86".as_slice();
        let replaced = b"\x83\x41\x01l\x86".as_slice();
        let (padded, padded_replaced) = (
            [b"\x02", headers, b"\0\0"].concat(),
            [b"\x02", replaced, b"\0\0"].concat(),
        );
        let (prior, prior_replaced) = ([b"abcde", headers].concat(), [b"abcde", replaced].concat());
        let data = vec![0x41; 70_000];
        let preface = vec![b'P'; PREFACE];
        let input = [
            preface.clone(),
            frame(HEADERS, 4, headers),
            frame(0, 0, &data),
            frame(HEADERS, 4 | PADDED, &padded),
            frame(HEADERS, 4 | PRIORITY, &prior),
            frame(HEADERS, 4, b"\x83\xbe"),
            frame(6, 0, headers),
            frame(HEADERS, 4, b""),
        ];
        let expected = [
            preface,
            frame(HEADERS, 4, replaced),
            frame(0, 0, &data),
            frame(HEADERS, 4 | PADDED, &padded_replaced),
            frame(HEADERS, 4 | PRIORITY, &prior_replaced),
            frame(HEADERS, 4, b"\x83\xbe"),
            frame(6, 0, headers),
            frame(HEADERS, 4, b""),
        ];
        for size in [1, 7, 100, 1 << 20] {
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            for piece in input.concat().chunks(size) {
                frames.pass(piece, &mut out);
            }
            assert!(out == expected.concat(), "in pieces of {size}");
        }
    }

    #[test]
    fn hands_on_what_makes_no_sense() {
        // More padding than payload, and a string that is longer than its frame.
        for broken in [
            frame(HEADERS, PADDED, b"\xff\x41\x01a"),
            frame(HEADERS, 4, b"\x41\x7fabc"),
        ] {
            let (mut frames, mut out) = (
                Frames {
                    unseen: 0,
                    held: Vec::new(),
                },
                Vec::new(),
            );
            frames.pass(&broken, &mut out);
            assert_eq!(out, broken);
        }
    }
}
