//! The bridge from async code to the blocking crates.

use crioxide_engine::ports::{PortError, PortResult};

/// Runs a blocking call inside the caller's span: at once on a thread that belongs to the operation at hand, otherwise on
/// tokio's blocking pool.
pub(crate) async fn run<T, E>(call: impl FnOnce() -> Result<T, E> + Send + 'static) -> PortResult<T>
where
    T: Send + 'static,
    E: Into<PortError> + Send + 'static,
{
    if crioxide_engine::may_block() {
        return call().map_err(Into::into);
    }
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(call)).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(format!("a worker thread failed: {error}").into()),
    }
}
