//! CRI-O's inspect endpoints, by HTTP/1 on the CRI socket.

use std::{fmt::Write as _, fs, os::unix::net::UnixStream, sync::Arc};

use crioxide_engine::{Engine, EngineError, ErrorKind};
use crioxide_files::read_to_string_limited;
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::http::{self, Answer};

/// What of the configuration the endpoints tell.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// The running configuration, as TOML.
    pub(crate) config: String,
    /// The answer of `/info`, as JSON.
    pub(crate) info: String,
}

/// Serves connections until no more can come.
pub(crate) async fn run(
    mut connections: mpsc::UnboundedReceiver<UnixStream>,
    engine: Engine,
    inspected: Inspected,
) {
    let inspected = Arc::new(inspected);
    while let Some(stream) = connections.recv().await {
        let stream = match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("Failed to serve a connection: {error}");
                continue;
            }
        };
        let (engine, inspected) = (engine.clone(), inspected.clone());
        tokio::spawn(http::serve(stream, move |path| {
            let (engine, inspected) = (engine.clone(), inspected.clone());
            async move { answer(&path, &engine, &inspected).await }
        }));
    }
}

async fn answer(path: &str, engine: &Engine, inspected: &Inspected) -> Answer {
    match path {
        "/config" => Answer::ok("application/toml", inspected.config.clone()),
        "/info" => Answer::ok("application/json", inspected.info.clone()),
        "/debug/goroutines" => Answer::ok("text/plain; charset=utf-8", threads()),
        "/debug/heap" => Answer::ok("application/octet-stream", memory()),
        _ => {
            if let Some(id) = path.strip_prefix("/containers/") {
                match engine.inspect(id) {
                    Ok(found) => Answer::ok("application/json", found.to_string()),
                    Err(error) => failed(&error),
                }
            } else if let Some(id) = path.strip_prefix("/pause/") {
                done(engine.pause_container(id).await)
            } else if let Some(id) = path.strip_prefix("/unpause/") {
                done(engine.resume_container(id).await)
            } else {
                Answer::not_found()
            }
        }
    }
}

fn done(result: Result<(), EngineError>) -> Answer {
    match result {
        Ok(()) => Answer::text(StatusCode::OK, "200 OK"),
        Err(error) => failed(&error),
    }
}

fn failed(error: &EngineError) -> Answer {
    let status = match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Answer::text(status, error.message())
}

/// What the daemon's threads do. Tasks have no stacks of their own, so there is less to see than of goroutines.
fn threads() -> String {
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut text = format!(
        "no goroutines here: {} tasks on {} workers; threads:\n",
        metrics.num_alive_tasks(),
        metrics.num_workers(),
    );
    for thread in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |file: &str| {
            let text = read_to_string_limited(thread.path().join(file), 4096);
            text.unwrap_or_default().trim().to_owned()
        };
        let state = read("status");
        let state = state.lines().find_map(|line| line.strip_prefix("State:"));
        let _infallible = writeln!(
            text,
            "{} {} [{}] {}",
            thread.file_name().to_string_lossy(),
            read("comm"),
            state.unwrap_or_default().trim(),
            read("wchan"),
        );
    }
    text
}

/// What the daemon's memory is used for, as the kernel tells.
fn memory() -> String {
    ["/proc/self/smaps_rollup", "/proc/self/smaps"]
        .iter()
        .filter_map(|path| read_to_string_limited(path, 16 << 20).ok())
        .collect()
}
