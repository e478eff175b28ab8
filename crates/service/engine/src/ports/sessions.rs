//! Sessions: the open ends of processes and ports, for a client that streams.

use bytes::Bytes;
use crioxide_names::{ContainerId, PodId};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use async_trait::async_trait;

use super::{PortResult, RecordDirs};

/// Which of its outputs a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What is typed.
#[async_trait]
pub trait SessionInput: Send {
    /// Passes bytes on, as fast as they are read.
    ///
    /// # Errors
    /// Nobody will read any more.
    async fn write(&mut self, bytes: &[u8]) -> PortResult<()>;
    /// There is nothing more to type.
    async fn end(&mut self) -> PortResult<()>;
}

/// What is written.
#[async_trait]
pub trait SessionOutput: Send {
    /// The next bytes; `None` at the end. May be cancelled without loss.
    async fn next(&mut self) -> PortResult<Option<(OutputStream, Bytes)>>;
}

/// The size of a terminal.
#[async_trait]
pub trait SessionTerminal: Send + Sync {
    /// Changes it.
    async fn resize(&self, size: TerminalSize) -> PortResult<()>;
}

/// When a session is over.
pub enum SessionEnd {
    /// With its process, whose exit code this gives. To drop it before kills the process.
    Exit(BoxFuture<'static, PortResult<i32>>),
    /// With the output.
    Output,
    /// With the output or the input, whichever is first.
    InputOrOutput,
}

impl std::fmt::Debug for SessionEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionEnd")
    }
}

/// An open session. To drop it ends it.
pub struct Session {
    /// Where input goes, if there is any.
    pub input: Option<Box<dyn SessionInput>>,
    /// Where output comes from.
    pub output: Box<dyn SessionOutput>,
    /// The terminal, if there is one.
    pub terminal: Option<Box<dyn SessionTerminal>>,
    /// When it is over.
    pub end: SessionEnd,
    /// Whether ctrl-p ctrl-q ends the session and leaves the process alone.
    pub detachable: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// A connection to a port of a pod.
pub trait PortConnection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> PortConnection for T {}

/// A process to run in a container, with a client at its other end.
#[derive(Debug, Clone)]
pub struct ExecSession {
    /// Pod.
    pub pod: PodId,
    /// Container.
    pub id: ContainerId,
    /// Runtime handler.
    pub handler: String,
    /// Directories of the container.
    pub dirs: RecordDirs,
    /// OCI process as JSON.
    pub process: Vec<u8>,
    /// It has a terminal; output is all stdout then.
    pub terminal: bool,
    /// The client types.
    pub stdin: bool,
    /// The client wants the output.
    pub stdout: bool,
    /// The client wants the error output.
    pub stderr: bool,
}

/// A running container to attach to.
#[derive(Debug, Clone)]
pub struct AttachSession {
    /// Container.
    pub id: ContainerId,
    /// Directories of the container.
    pub dirs: RecordDirs,
    /// The container has a terminal.
    pub terminal: bool,
    /// The client types.
    pub stdin: bool,
    /// The session is over when the client's input is.
    pub ends_with_input: bool,
}
