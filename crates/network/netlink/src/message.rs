//! Netlink framing shared by the two socket kinds: message headers, attributes, replies.

use rustix::io::Errno;

pub(crate) const HEADER_LEN: usize = 16;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Builds one buffer of netlink messages, attribute by attribute.
#[derive(Debug, Default)]
pub(crate) struct MessageWriter {
    buffer: Vec<u8>,
    message_start: usize,
}

impl MessageWriter {
    /// Starts a message; its length is filled in by [`Self::end_message`].
    pub(crate) fn begin_message(&mut self, kind: u16, flags: u16, sequence: u32) {
        self.message_start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
    }

    pub(crate) fn end_message(&mut self) {
        self.patch_length(self.message_start, 4);
        self.pad();
    }

    /// Bytes of the fixed part behind the header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        // Attribute values here are names, keys and addresses, all far below the 64 KiB limit.
        let length = u16::try_from(value.len() + 4).expect("attribute values are short");
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
    }

    pub(crate) fn u32_be(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A NUL-terminated string.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        fill(self);
        self.patch_length(start, 2);
        self.pad();
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.buffer
    }

    fn patch_length(&mut self, start: usize, width: usize) {
        let length = u32::try_from(self.buffer.len() - start).expect("batches are far below 4 GiB");
        if width == 4 {
            self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        } else {
            let length = u16::try_from(length).expect("nested attributes are below 64 KiB");
            self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
    }
}

/// One message of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl Reply<'_> {
    /// What an error message (`NLMSG_ERROR`) or the end of a dump says: `Ok` is an acknowledgement.
    pub(crate) fn status(&self) -> Result<(), Errno> {
        let code = self.payload.get(..4).map_or(0, |bytes| {
            i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        });
        if code == 0 {
            Ok(())
        } else {
            Err(Errno::from_raw_os_error(code.wrapping_neg()))
        }
    }
}

/// Splits a received buffer into messages; a malformed tail ends the iteration.
pub(crate) fn replies(buffer: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER_LEN)?;
        let length = usize::try_from(u32::from_ne_bytes(header[0..4].try_into().ok()?)).ok()?;
        let message = rest
            .get(..length)
            .filter(|message| message.len() >= HEADER_LEN)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply {
            kind: u16::from_ne_bytes(message[4..6].try_into().ok()?),
            sequence: u32::from_ne_bytes(message[8..12].try_into().ok()?),
            payload: &message[HEADER_LEN..],
        })
    })
}

/// Splits a payload into attributes `(type, value)`; a malformed tail ends the iteration.
pub(crate) fn attributes(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of type `wanted`.
pub(crate) fn attribute(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(payload)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        let mut writer = MessageWriter::default();
        writer.begin_message(7, NLM_F_REQUEST, 42);
        writer.raw(&[1, 2, 3, 4]);
        writer.string(1, "abc");
        writer.nested(2, |writer| writer.u32_be(3, 9));
        writer.end_message();
        writer.begin_message(8, 0, 43);
        writer.end_message();
        let buffer = writer.finish();
        let read: Vec<_> = replies(&buffer).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].sequence), (7, 42));
        let payload = &read[0].payload[4..];
        assert_eq!(attribute(payload, 1), Some(&b"abc\0"[..]));
        assert_eq!(
            attribute(attribute(payload, 2).unwrap(), 3),
            Some(&[0, 0, 0, 9][..])
        );
    }

    #[test]
    fn truncated_input_ends_quietly() {
        let mut writer = MessageWriter::default();
        writer.begin_message(7, 0, 1);
        writer.string(1, "abcdef");
        writer.end_message();
        let buffer = writer.finish();
        for cut in 0..buffer.len() {
            assert_eq!(replies(&buffer[..cut]).count(), 0, "cut at {cut}");
        }
        assert_eq!(
            attributes(&[3, 0, 1, 0]).count(),
            0,
            "a length below the header's own"
        );
    }
}
