//! What stands before the content of a line.

use std::io::Write;
use std::time::SystemTime;

use crioxide_sys::local_time::LocalTime;

/// Which of the container's outputs a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Number of the stream on attach sockets.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Stdout => 2,
            Self::Stderr => 3,
        }
    }
}

/// 35 characters of time, a blank, the stream, a blank, the tag and a blank; years beyond 9999 need one more.
const LONGEST: usize = 48;

/// The text before a line's content, once for full lines and once for parts.
pub(super) struct Prefixes {
    text: [u8; LONGEST],
    length: usize,
}

impl Prefixes {
    pub(super) fn new(time: SystemTime, stream: Stream) -> Self {
        let local = LocalTime::of(time);
        let sign = if local.offset < 0 { '-' } else { '+' };
        let offset = local.offset.unsigned_abs() / 60;
        let mut text = [0; LONGEST];
        let mut rest = &mut text[..];
        // Cannot fail: the buffer holds any time until the year 99999.
        let _ = write!(
            rest,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}{sign}{:02}:{:02} {} F ",
            local.year,
            local.month,
            local.day,
            local.hour,
            local.minute,
            local.second,
            local.nanosecond,
            offset / 60,
            offset % 60,
            stream.name(),
        );
        let length = LONGEST - rest.len();
        Self { text, length }
    }

    /// Prefix of a full line; both prefixes have this length.
    pub(super) fn full(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// The same for a part of a line.
    pub(super) fn partial(&self) -> Self {
        let mut text = self.text;
        text[self.length - 2] = b'P';
        Self {
            text,
            length: self.length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_is_the_one_conmon_writes() {
        let prefixes = Prefixes::new(SystemTime::now(), Stream::Stderr);
        let text = std::str::from_utf8(prefixes.full()).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert_eq!(rest, "stderr F ");
        assert_eq!(time.len(), 35);
        assert_eq!(&time[19..20], ".");
        assert!(matches!(&time[29..30], "+" | "-"));
        assert!(prefixes.partial().full().ends_with(b" stderr P "));
    }
}
