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

pub use error::StartError;
pub use startup::{ConfigSource, OpenFilesLimit, Startup};

/// The CRI-O release whose behaviour and files we speak; written into version markers and answered to the kubelet.
pub const VERSION: &str = "1.37.0";

/// Gives back what is mapped of our program, when a burst of work is over: its code is not needed until the next one. And
/// memory that nothing uses any more.
fn give_back() {
    if !crioxide_engine::any_under_way() {
        // Without /proc nothing would have come this far.
        let _ = crioxide_sys::program_pages::release();
        crioxide_sys::allocator::trim();
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
        .thread_keep_alive(std::time::Duration::from_secs(3))
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
