//! The daemon: puts the parts together and keeps them running.
//!
//! Nothing here decides anything about pods. [`run`] builds the store, the networks, the runtimes and the engine from
//! the configuration, restores what was there, answers calls on the socket, and shuts down in order. The adapters
//! give the engine's ports the real host.
#![forbid(unsafe_code)]

mod adapters;
mod assemble;
mod blocking;
mod endpoints;
mod error;
mod facts;
mod handlers;
mod lifecycle;
mod pod_cgroup;
mod serve;
mod socket;
mod startup;
mod watchdog;

use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use error::StartError;
pub use startup::{ConfigSource, OpenFilesLimit, Startup};

/// The CRI-O release whose behaviour and files we speak; written into version markers and answered to the kubelet.
pub const VERSION: &str = "1.37.0";

/// How long a thread is kept that has nothing to do.
const THREAD_KEPT: Duration = Duration::from_secs(3);

/// Gives back what is mapped of our program, and memory that nothing uses any more, when a burst of work is over: its code
/// is not needed until the next one.
///
/// Called by each of the threads that end then, of which only one does it.
fn give_back() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let now = Instant::now();
    if let Ok(mut last) = LAST.lock()
        && !crioxide_engine::any_under_way()
        && last.is_none_or(|last| now.duration_since(last) >= THREAD_KEPT / 3)
    {
        // Without /proc nothing would have come this far.
        let _ = crioxide_sys::program_pages::release();
        crioxide_sys::allocator::trim();
        *last = Some(now);
    }
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run(startup: Startup) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("crioxide")
        .max_blocking_threads(128)
        // A burst of pods leaves many threads, each with its stack.
        .thread_keep_alive(THREAD_KEPT)
        .on_thread_stop(give_back)
        .build()
        .map_err(|source| StartError::Runtime { source })?;
    let result = runtime.block_on(serve::run(startup));
    if crioxide_engine::any_under_way() {
        // They use the runtime from threads of their own and end with the process.
        std::mem::forget(runtime);
    } else {
        // Blocking calls that still wait (a hung plugin) must not keep the process.
        runtime.shutdown_background();
    }
    result
}
