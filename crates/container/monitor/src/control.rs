//! The FIFOs through which CRI-O drives a running conmon, and would drive us after a roll-back.
//!
//! `ctl`: lines `<type> <a> <b>`, type 1 resizes to height a and width b, type 2 reopens the log. `winsz`: the older
//! form, lines `<height> <width>`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crioxide_files::{Existing, FifoEnd, make_fifo, open_fifo};

use crate::watcher::{ContainerKey, Source, Token, Watcher};

/// What a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Resize { height: u16, width: u16 },
    ReopenLog,
}

/// One of the two FIFOs.
pub(crate) struct Fifo {
    path: PathBuf,
    /// Open for both directions, so that it never reads as ended when a writer leaves.
    descriptor: OwnedFd,
    token: Option<Token>,
    rest: Vec<u8>,
    parse: fn(&str) -> Option<Command>,
}

/// Longer lines are nonsense.
const LINE_LIMIT: usize = 200;

impl Fifo {
    /// `<bundle>/ctl`.
    pub(crate) fn control(bundle: &Path) -> io::Result<Self> {
        Self::make(bundle.join("ctl"), parse_control)
    }

    /// `<bundle>/winsz`.
    pub(crate) fn window_size(bundle: &Path) -> io::Result<Self> {
        Self::make(bundle.join("winsz"), parse_window_size)
    }

    fn make(path: PathBuf, parse: fn(&str) -> Option<Command>) -> io::Result<Self> {
        make_fifo(&path, 0o640, Existing::Replaced)?;
        let descriptor = open_fifo(&path, FifoEnd::Both)?;
        Ok(Self {
            path,
            descriptor,
            token: None,
            rest: Vec::new(),
            parse,
        })
    }

    pub(crate) fn watch(
        &mut self,
        source: fn(ContainerKey) -> Source,
        key: ContainerKey,
        watcher: &mut Watcher,
    ) -> io::Result<()> {
        self.token = Some(watcher.add(&self.descriptor, source(key))?);
        Ok(())
    }

    /// The commands that arrived.
    pub(crate) fn read(&mut self) -> Vec<Command> {
        let mut buffer = [0; LINE_LIMIT];
        let Ok(count) = rustix::io::read(&self.descriptor, &mut buffer) else {
            return Vec::new();
        };
        self.rest.extend_from_slice(&buffer[..count]);
        let mut commands = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            commands.extend(std::str::from_utf8(&line).ok().and_then(self.parse));
        }
        if self.rest.len() > LINE_LIMIT {
            self.rest.clear();
        }
        commands
    }

    /// Stops watching; the file stays, as with conmon.
    pub(crate) fn close(&mut self, watcher: &mut Watcher) {
        if let Some(token) = self.token.take() {
            watcher.remove(&self.descriptor, token);
        }
    }

    /// Removes the file.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn parse_control(line: &str) -> Option<Command> {
    let mut numbers = line.split_whitespace().map(|word| word.parse::<u16>().ok());
    match (numbers.next()??, numbers.next()??, numbers.next()??) {
        (1, height, width) => resize(height, width),
        (2, ..) => Some(Command::ReopenLog),
        _ => None,
    }
}

fn parse_window_size(line: &str) -> Option<Command> {
    let mut numbers = line.split_whitespace().map(|word| word.parse::<u16>().ok());
    resize(numbers.next()??, numbers.next()??)
}

fn resize(height: u16, width: u16) -> Option<Command> {
    (height <= 1000 && width <= 1000).then_some(Command::Resize { height, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds() {
        assert_eq!(
            parse_control("1 24 80\n"),
            Some(Command::Resize {
                height: 24,
                width: 80
            })
        );
        assert_eq!(parse_control("2 0 0\n"), Some(Command::ReopenLog));
        assert_eq!(
            parse_window_size("24 80\n"),
            Some(Command::Resize {
                height: 24,
                width: 80
            })
        );
        for bad in ["", "1", "1 24", "1 2000 80", "9 0 0", "1 -1 2", "x y z"] {
            assert_eq!(parse_control(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_may_arrive_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let mut fifo = Fifo::control(dir.path()).unwrap();
        let writer = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("ctl"))
            .unwrap();
        let send = |bytes: &[u8]| rustix::io::write(&writer, bytes).unwrap();
        send(b"1 10 ");
        assert_eq!(fifo.read(), []);
        send(b"20\n2 0 0\njunk\n");
        assert_eq!(
            fifo.read(),
            [
                Command::Resize {
                    height: 10,
                    width: 20
                },
                Command::ReopenLog
            ]
        );
    }
}
