//! Patience with disks. Work that waits for one is watched, and given up when neither it nor its disk gets any further: a thread
//! in a system call that does not return cannot be ended, but nobody has to wait for it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::disk::Disk;

/// So often is looked within the limit.
const LOOKS: u32 = 8;

/// A disk does not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StallError {
    /// Work on it got no further.
    #[error("the disk below `{place}` does not answer: nothing got further there for {} s", limit.as_secs_f32())]
    Silent {
        /// A directory on the disk.
        place: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Work that was given up still waits for it, so there is no sense in more.
    #[error(
        "the disk below `{place}` does not answer: {threads} threads of earlier pulls still wait for it"
    )]
    Still {
        /// A directory on the disk.
        place: PathBuf,
        /// Threads that wait.
        threads: usize,
    },
}

/// Why work did not come to its end.
#[derive(Debug)]
pub(crate) enum GivenUp {
    Stalled(StallError),
    /// It panicked, or the program is ending.
    Lost(JoinError),
}

/// How long the work of pulls on one disk may go on without getting further.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    place: PathBuf,
    disk: Option<Disk>,
    /// Threads that were given up and have not ended.
    given_up: watch::Sender<usize>,
}

impl Patience {
    /// `place` is a directory on the disk.
    pub(crate) fn new(limit: Duration, place: &Path) -> Arc<Self> {
        Arc::new(Self {
            limit,
            place: place.to_owned(),
            disk: Disk::of(place),
            given_up: watch::Sender::new(0),
        })
    }

    /// Fails while work that was given up still waits: more of it would only take more threads.
    pub(crate) fn check(&self) -> Result<(), StallError> {
        match *self.given_up.borrow() {
            0 => Ok(()),
            threads => Err(StallError::Still {
                place: self.place.clone(),
                threads,
            }),
        }
    }

    /// Comes when work on the disk is given up.
    pub(crate) async fn ends(&self) -> StallError {
        let mut given_up = self.given_up.subscribe();
        // The sender is here, so there is no error.
        let _ = given_up.wait_for(|threads| *threads > 0).await;
        self.silent()
    }

    /// Runs `work` on a thread that may block. What comes of work that was given up is dropped there.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        pulse: Pulse,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, GivenUp> {
        self.check().map_err(GivenUp::Stalled)?;
        let (running, ended) = oneshot::channel();
        let thread = tokio::task::spawn_blocking(move || {
            let _running: oneshot::Sender<()> = running;
            work()
        });
        let (silent, silence) = oneshot::channel();
        tokio::spawn(self.clone().watch(pulse, ended, silent));
        tokio::select! {
            biased;
            done = thread => done.map_err(GivenUp::Lost),
            Ok(()) = silence => Err(GivenUp::Stalled(self.silent())),
        }
    }

    /// Watches a thread to its end, which outlives whoever waits for it.
    async fn watch(
        self: Arc<Self>,
        pulse: Pulse,
        mut ended: oneshot::Receiver<()>,
        silent: oneshot::Sender<()>,
    ) {
        let seen = || (pulse.count(), self.disk.as_ref().and_then(Disk::requests));
        let (mut last, mut since) = (seen(), Instant::now());
        while since.elapsed() < self.limit {
            let look = tokio::time::timeout(self.limit / LOOKS, &mut ended).await;
            if look.is_ok() {
                return;
            }
            let now = seen();
            if now != last || pulse.is_waiting() {
                (last, since) = (now, Instant::now());
            }
        }
        tracing::warn!(
            place = %self.place.display(),
            limit = ?self.limit,
            "a disk does not answer, giving up the work on it"
        );
        self.given_up.send_modify(|threads| *threads += 1);
        // Whoever waited may be gone already.
        let _ = silent.send(());
        let _ = ended.await;
        tracing::info!(place = %self.place.display(), "work that was given up has ended");
        self.given_up.send_modify(|threads| *threads -= 1);
    }

    fn silent(&self) -> StallError {
        StallError::Silent {
            place: self.place.clone(),
            limit: self.limit,
        }
    }
}

/// Signs of life of one thread. Odd while it waits for something else than the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It got further.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
    }

    /// Waits for something that is not the disk's.
    pub(crate) fn wait<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        let value = wait();
        self.0.fetch_add(1, Ordering::Relaxed);
        value
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn is_waiting(&self) -> bool {
        self.count() % 2 == 1
    }
}

/// A reader whose every read is a sign of life.
pub(crate) struct Beating<R> {
    pub(crate) inner: R,
    pub(crate) pulse: Pulse,
}

impl<R: Read> Read for Beating<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pulse.beat();
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);

    /// A directory that is on no disk.
    fn patience() -> Arc<Patience> {
        Patience::new(LIMIT, Path::new("/proc"))
    }

    #[tokio::test]
    async fn silence_ends_the_wait_and_the_next_one_at_once() {
        let patience = patience();
        let (go_on, hangs) = std::sync::mpsc::channel::<()>();
        let (dropped, result) = oneshot::channel::<()>();
        let hanging = patience.run(Pulse::default(), move || {
            let _ = hangs.recv();
            dropped
        });
        let stalled = hanging.await.unwrap_err();
        assert!(
            matches!(stalled, GivenUp::Stalled(StallError::Silent { .. })),
            "{stalled:?}"
        );
        let refused = patience.run(Pulse::default(), || ()).await.unwrap_err();
        assert!(
            matches!(
                refused,
                GivenUp::Stalled(StallError::Still { threads: 1, .. })
            ),
            "{refused:?}"
        );
        assert!(patience.ends().await.to_string().contains("/proc"));
        drop(go_on);
        // What it made is dropped, and work is welcome again.
        assert!(result.await.is_err());
        let mut given_up = patience.given_up.subscribe();
        given_up.wait_for(|threads| *threads == 0).await.unwrap();
        assert!(
            patience
                .run(Pulse::default(), || 7)
                .await
                .is_ok_and(|seven| seven == 7)
        );
    }

    #[tokio::test]
    async fn signs_of_life_and_waits_for_others_prolong() {
        let patience = patience();
        for waits in [false, true] {
            let pulse = Pulse::default();
            let own = pulse.clone();
            let done = patience.run(pulse, move || {
                for _ in 0..3 * LOOKS {
                    let rest = || std::thread::sleep(LIMIT / LOOKS);
                    if waits {
                        own.wait(rest);
                    } else {
                        rest();
                        own.beat();
                    }
                }
            });
            done.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let lost = patience()
            .run(Pulse::default(), || {
                // Without a backtrace, which may take longer than the limit.
                std::panic::resume_unwind(Box::new("on purpose"))
            })
            .await;
        assert!(matches!(lost, Err::<(), _>(GivenUp::Lost(_))));
    }

    #[tokio::test]
    async fn who_leaves_early_does_not_end_the_watch() {
        let patience = patience();
        let (go_on, hangs) = std::sync::mpsc::channel::<()>();
        let left = patience.run(Pulse::default(), move || hangs.recv().is_ok());
        assert!(tokio::time::timeout(LIMIT / 4, left).await.is_err());
        patience.ends().await;
        assert!(patience.check().is_err());
        drop(go_on);
    }
}
