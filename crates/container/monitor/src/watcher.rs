//! The poll set: which descriptor stands for what.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::streams::log::Stream;

/// Number of a container within its monitor; never used twice.
pub(crate) type ContainerKey = u32;

/// What a descriptor in the poll set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Signals,
    Listener,
    Client(u32),
    Output(ContainerKey, Stream),
    Stdin(ContainerKey),
    AttachListener(ContainerKey),
    AttachClient(ContainerKey, u32),
    Control(ContainerKey),
    WindowSize(ContainerKey),
    Oom(ContainerKey),
    Console(ContainerKey),
}

/// A place in the poll set. To be given back to [`Watcher::remove`] before its descriptor is closed: forked children may
/// still hold a copy, which would keep the registration alive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// The poll set.
#[derive(Debug)]
pub(crate) struct Watcher {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    next: u64,
}

impl Watcher {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sources: BTreeMap::new(),
            next: 0,
        })
    }

    /// Watches for input.
    pub(crate) fn add(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<Token> {
        self.add_for(descriptor, source, EventFlags::IN)
    }

    /// Watches for these events.
    pub(crate) fn add_for(
        &mut self,
        descriptor: impl AsFd,
        source: Source,
        events: EventFlags,
    ) -> io::Result<Token> {
        let token = self.next;
        self.next += 1;
        epoll::add(&self.epoll, descriptor, EventData::new_u64(token), events)?;
        self.sources.insert(token, source);
        Ok(Token(token))
    }

    /// Changes what is watched for.
    pub(crate) fn change(&mut self, descriptor: impl AsFd, token: &Token, events: EventFlags) {
        // The registration exists as long as its token does, so this cannot fail in a way to act on.
        let _ = epoll::modify(&self.epoll, descriptor, EventData::new_u64(token.0), events);
    }

    /// Stops watching.
    pub(crate) fn remove(&mut self, descriptor: impl AsFd, token: Token) {
        self.sources.remove(&token.0);
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// Waits for events and collects their tokens and flags.
    pub(crate) fn wait(&self, timeout: Option<Timespec>, ready: &mut Vec<Event>) -> io::Result<()> {
        ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(ready), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What an event is about; `None` when an earlier event of the same batch removed it.
    pub(crate) fn source(&self, event: &Event) -> Option<Source> {
        let data = event.data;
        self.sources.get(&data.u64()).copied()
    }
}
