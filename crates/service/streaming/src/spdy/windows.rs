//! How much may be sent, and how much was taken in.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::Notify;

/// Window of a new stream and of the connection, until something else is said.
const INITIAL: i64 = 64 << 10;

/// Bytes taken in before the other side is told.
const UPDATE_AT: u32 = 32 << 10;

#[derive(Debug)]
struct State {
    initial: i64,
    /// The other side keeps windows of streams, of the connection.
    streams_kept: bool,
    connection_kept: bool,
    connection: i64,
    streams: HashMap<u32, i64>,
    taken: HashMap<u32, u32>,
}

/// Windows of one connection.
#[derive(Debug)]
pub(crate) struct Windows {
    state: Mutex<State>,
    more: Notify,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                initial: INITIAL,
                streams_kept: false,
                connection_kept: false,
                connection: INITIAL,
                streams: HashMap::new(),
                taken: HashMap::new(),
            }),
            more: Notify::new(),
        }
    }
}

impl Windows {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("no holder of this lock panics"))
    }

    /// Waits until something may be sent and returns how much of `wanted` bytes.
    pub(crate) async fn take(&self, stream: u32, wanted: usize) -> usize {
        loop {
            let more = self.more.notified();
            if let Some(count) = self.with(|state| state.take(stream, wanted)) {
                return count;
            }
            more.await;
        }
    }

    /// An update arrived; 0 is the connection.
    pub(crate) fn enlarge(&self, stream: u32, more: u32) {
        self.with(|state| {
            if stream == 0 {
                state.connection_kept = true;
                state.connection = state.connection.saturating_add(more.into());
            } else {
                state.streams_kept = true;
                // One that is gone needs no window.
                if let Some(window) = state.streams.get_mut(&stream) {
                    *window = window.saturating_add(more.into());
                }
            }
        });
        self.more.notify_waiters();
    }

    /// The other side said with what window its streams begin.
    pub(crate) fn set_initial(&self, bytes: u32) {
        self.with(|state| {
            let change = i64::from(bytes) - state.initial;
            state.initial = bytes.into();
            state.streams_kept = true;
            for window in state.streams.values_mut() {
                *window += change;
            }
        });
        self.more.notify_waiters();
    }

    pub(crate) fn open(&self, stream: u32) {
        self.with(|state| state.streams.insert(stream, state.initial));
    }

    pub(crate) fn close(&self, stream: u32) {
        self.with(|state| {
            state.streams.remove(&stream);
            state.taken.remove(&stream);
        });
        self.more.notify_waiters();
    }

    /// Bytes were taken in for good: the updates that are due, for the stream and the connection.
    pub(crate) fn taken(&self, stream: u32, count: usize) -> Vec<(u32, u32)> {
        self.with(|state| {
            let mut due = Vec::new();
            let both = [stream, 0];
            // What goes nowhere counts for the connection alone.
            for id in both.into_iter().skip(usize::from(stream == 0)) {
                // Data pieces are far smaller than 4 GiB.
                let taken = state.taken.entry(id).or_default();
                *taken += count as u32;
                if *taken >= UPDATE_AT {
                    due.push((id, std::mem::take(taken)));
                }
            }
            due
        })
    }
}

impl State {
    fn take(&mut self, stream: u32, wanted: usize) -> Option<usize> {
        let own = self.streams.get(&stream).copied();
        let mut most = wanted as i64;
        if self.streams_kept {
            // A stream that was reset takes anything; it goes nowhere.
            most = most.min(own.unwrap_or(i64::MAX));
        }
        if self.connection_kept {
            most = most.min(self.connection);
        }
        if most <= 0 && wanted > 0 {
            return None;
        }
        if let Some(window) = self.streams.get_mut(&stream) {
            *window -= most;
        }
        self.connection -= most;
        Some(most as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_side_without_windows_is_never_waited_for() {
        let windows = Windows::default();
        windows.open(1);
        for _ in 0..100 {
            assert_eq!(windows.take(1, 32 << 10).await, 32 << 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn windows_are_obeyed_once_they_are_kept() {
        let windows = Windows::default();
        windows.open(1);
        windows.open(3);
        assert_eq!(windows.take(1, 60_000).await, 60_000);
        windows.enlarge(1, 100);
        assert_eq!(windows.take(1, 60_000).await, 5536 + 100);
        let blocked = tokio::time::timeout(std::time::Duration::from_secs(1), windows.take(1, 1));
        assert!(blocked.await.is_err());
        // Other streams go on.
        assert_eq!(windows.take(3, 1000).await, 1000);
        windows.set_initial(64 << 11);
        assert_eq!(windows.take(1, 1_000_000).await, 64 << 10);
        // The connection's own window counts when it is kept; much more was sent meanwhile.
        windows.enlarge(0, 1);
        let blocked = tokio::time::timeout(std::time::Duration::from_secs(1), windows.take(3, 1));
        assert!(blocked.await.is_err());
        windows.enlarge(0, 1 << 20);
        assert_eq!(windows.take(3, 1).await, 1);
    }

    #[test]
    fn updates_are_due_now_and_then() {
        let windows = Windows::default();
        assert!(windows.taken(1, 20_000).is_empty());
        assert_eq!(windows.taken(3, 20_000), [(0, 40_000)]);
        assert_eq!(windows.taken(1, 20_000), [(1, 40_000)]);
    }
}
