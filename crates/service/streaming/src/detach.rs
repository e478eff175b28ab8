//! The keys that end an attach session and leave the process alone: ctrl-p, ctrl-q.

use bytes::Bytes;

const FIRST: u8 = 16;
const SECOND: u8 = 17;

/// Looks for the keys in what a client types.
///
/// As with CRI-O they count only as single key strokes, that is, when each comes alone (or both come together with
/// nothing else): input that is piped in may hold any bytes.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    first_seen: bool,
}

/// What to do with what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Passes this on; it may be empty, as the first key waits for what follows.
    On(Bytes),
    /// The session is over.
    Detach,
}

impl DetachKeys {
    pub(crate) fn look(&mut self, bytes: Bytes) -> Typed {
        match (&bytes[..], self.first_seen) {
            ([FIRST], false) => {
                self.first_seen = true;
                Typed::On(Bytes::new())
            }
            ([SECOND], true) | ([FIRST, SECOND], false) => Typed::Detach,
            (_, true) => {
                self.first_seen = false;
                Typed::On([&[FIRST], &bytes[..]].concat().into())
            }
            (_, false) => Typed::On(bytes),
        }
    }

    /// What still waits when there is no more to come.
    pub(crate) fn rest(&self) -> Bytes {
        if self.first_seen {
            Bytes::from_static(&[FIRST])
        } else {
            Bytes::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_key_strokes() {
        let typed = |chunks: &[&'static [u8]]| {
            let mut keys = DetachKeys::default();
            let mut all = Vec::new();
            for chunk in chunks {
                match keys.look(Bytes::from_static(chunk)) {
                    Typed::On(bytes) => all.extend_from_slice(&bytes),
                    Typed::Detach => return None,
                }
            }
            all.extend_from_slice(&keys.rest());
            Some(all)
        };
        assert_eq!(typed(&[b"ls\n", &[16], &[17], b"more"]), None);
        assert_eq!(typed(&[&[16, 17]]), None);
        assert_eq!(typed(&[&[16], b"x"]), Some(vec![16, b'x']));
        assert_eq!(typed(&[b"a\x10\x11b"]), Some(b"a\x10\x11b".to_vec()));
        assert_eq!(typed(&[&[16]]), Some(vec![16]));
        assert_eq!(typed(&[&[16], &[16], &[17]]), Some(vec![16, 16, 17]));
    }
}
