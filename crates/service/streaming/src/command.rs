//! One exec or attach session.

use std::time::Duration;

use bytes::Bytes;
use crioxide_engine::EngineError;
use crioxide_engine::ports::{
    OutputStream, Session, SessionEnd, SessionInput, SessionOutput, SessionTerminal, TerminalSize,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::detach::{DetachKeys, Typed};
use crate::resize::Sizes;
use crate::spdy::value;
use crate::status::Outcome;
use crate::transport::{ClientGone, Incoming, Receiver, Sender, Transport};

/// Pieces of input (of at most 32 KiB) that wait for the process.
const INPUT_QUEUE: usize = 4;

/// How long output may be silent after the process ended, before what still holds its pipe is not waited for.
const SILENCE: Duration = Duration::from_millis(500);

/// Most bytes of output after the process ended: more than a pipe of it could hold comes from something it left behind.
const REMAINDER: usize = 2 << 20;

/// How long the client may take to read to the end and close the connection.
///
/// Until then it must not be closed here: data that still arrives at a closed socket resets the connection, and what was
/// not sent yet would be lost.
const FAREWELL: Duration = Duration::from_secs(15 * 60);

/// Most input that arrives before all channels are there.
const EARLY_INPUT: usize = 256 << 10;

/// Which channels the client wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// Numbers of the channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Channels {
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    error: Option<u32>,
    resize: Option<u32>,
}

/// Serves a session until it is over or its client is gone.
pub(crate) async fn serve<F>(
    transport: Transport,
    wanted: Wanted,
    version: u8,
    creation_timeout: Duration,
    what: &'static str,
    open: F,
) where
    F: Future<Output = Result<Session, EngineError>>,
{
    let Transport {
        mut receiver,
        sender,
        gone,
    } = transport;
    let agreed = agree_on_channels(&mut receiver, &sender, wanted, version);
    let (channels, early) = match tokio::time::timeout(creation_timeout, agreed).await {
        Ok(Some(agreed)) => agreed,
        Ok(None) => return,
        Err(_) => {
            tracing::warn!("Timed out waiting for client to create streams");
            return;
        }
    };
    let (input, input_queue) = mpsc::channel(INPUT_QUEUE);
    let (size, sizes) = watch::channel(None);
    let client = Client {
        receiver,
        sender: sender.clone(),
        channels,
        input: channels.stdin.is_some().then_some(input),
        size,
        sizes: Sizes::default(),
    };
    let listening = async {
        tokio::select! {
            () = client.listen(early) => {}
            // While the process takes no input nothing is read, and the end of the connection would not be seen.
            () = gone.wait() => {}
        }
    };
    tokio::pin!(listening);
    let work = async {
        let session = match open.await {
            Ok(session) => session,
            Err(error) => return Outcome::Failed(format!("{what}: {error}")),
        };
        match run(session, input_queue, sizes, &sender, channels).await {
            Ok(Some(0) | None) => Outcome::Success,
            Ok(Some(code)) => Outcome::Exit(code),
            Err(error) => Outcome::Failed(format!("{what}: {error}")),
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = &mut listening => return,
    };
    if say(outcome, &sender, channels, version).await.is_ok() {
        let _ = tokio::time::timeout(FAREWELL, listening).await;
    }
}

/// Waits for the channels; `None` when the client goes before that. What it already sent on them comes along.
async fn agree_on_channels(
    receiver: &mut Receiver,
    sender: &Sender,
    wanted: Wanted,
    version: u8,
) -> Option<(Channels, Vec<Incoming>)> {
    if matches!(receiver, Receiver::WebSocket(_)) {
        let channels = Channels {
            stdin: wanted.stdin.then_some(0),
            stdout: wanted.stdout.then_some(1),
            stderr: wanted.stderr.then_some(2),
            error: Some(3),
            resize: Some(4),
        };
        // An empty message tells the client that it is connected.
        let first = channels.stdout.or(channels.stderr).or(channels.error)?;
        sender.data(first, Bytes::new()).await.ok()?;
        return Some((channels, Vec::new()));
    }
    let mut channels = Channels::default();
    let mut early = Vec::new();
    let mut early_bytes = 0;
    loop {
        let resize = wanted.tty && version >= 3;
        let complete = channels.error.is_some()
            && (channels.stdin.is_some() || !wanted.stdin)
            && (channels.stdout.is_some() || !wanted.stdout)
            && (channels.stderr.is_some() || !wanted.stderr)
            && (channels.resize.is_some() || !resize);
        if complete {
            return Some((channels, early));
        }
        match receiver.next().await? {
            Incoming::Opened { id, headers, end } => {
                let place = match value(&headers, "streamtype") {
                    Some("error") => &mut channels.error,
                    Some("stdin") => &mut channels.stdin,
                    Some("stdout") => &mut channels.stdout,
                    Some("stderr") => &mut channels.stderr,
                    Some("resize") => &mut channels.resize,
                    other => {
                        tracing::debug!("A streaming client opens an unexpected stream {other:?}");
                        receiver.forget(id);
                        sender.reset(id).await.ok()?;
                        continue;
                    }
                };
                *place = Some(id);
                sender.accept(id)?;
                if end {
                    let bytes = Bytes::new();
                    early.push(Incoming::Data { id, bytes, end });
                }
            }
            incoming => {
                if let Incoming::Data { bytes, .. } = &incoming {
                    early_bytes += bytes.len();
                }
                early.push(incoming);
                if early_bytes > EARLY_INPUT || early.len() > EARLY_INPUT / 64 {
                    tracing::warn!("A streaming client sends data before it opened its streams");
                    return None;
                }
            }
        }
    }
}

/// What comes from the client, taken apart.
struct Client {
    receiver: Receiver,
    sender: Sender,
    channels: Channels,
    input: Option<mpsc::Sender<Bytes>>,
    size: watch::Sender<Option<TerminalSize>>,
    sizes: Sizes,
}

impl Client {
    /// Until the client is gone.
    async fn listen(mut self, early: Vec<Incoming>) {
        for incoming in early {
            self.take(incoming).await;
        }
        while let Some(incoming) = self.receiver.next().await {
            self.take(incoming).await;
        }
    }

    async fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Data { id, bytes, end } => {
                let count = bytes.len();
                if Some(id) == self.channels.stdin {
                    if let Some(input) = &self.input
                        && !bytes.is_empty()
                        && input.send(bytes).await.is_err()
                    {
                        // Nobody reads any more; the rest goes nowhere.
                        self.input = None;
                    }
                    if end {
                        self.input = None;
                    }
                } else if Some(id) == self.channels.resize
                    && let Some(size) = self.sizes.read(&bytes)
                {
                    self.size.send_replace(Some(size));
                }
                self.sender.taken(id, count);
            }
            Incoming::Reset { id } => {
                if Some(id) == self.channels.stdin {
                    self.input = None;
                }
            }
            Incoming::Opened { id, .. } => {
                self.receiver.forget(id);
                // If the client is gone this is seen at the next receive.
                let _ = self.sender.reset(id).await;
            }
        }
    }
}

/// Connects client and process until it is over; the exit code, if there is one.
async fn run(
    session: Session,
    input: mpsc::Receiver<Bytes>,
    sizes: watch::Receiver<Option<TerminalSize>>,
    sender: &Sender,
    channels: Channels,
) -> Result<Option<i32>, String> {
    let (over, is_over) = oneshot::channel();
    let output = write_output(session.output, is_over, sender, channels);
    let typing = async {
        match channels.stdin {
            Some(_) => type_input(session.input, input, session.detachable).await,
            None => std::future::pending().await,
        }
    };
    let resizing = follow_size(session.terminal, sizes);
    match session.end {
        SessionEnd::Exit(exit) => {
            let exiting = async {
                let code = exit.await.map_err(|error| words(&error))?;
                // If output is over already nobody listens.
                let _ = over.send(());
                Ok(code)
            };
            let ended = futures_util::future::try_join(exiting, output);
            let beside = async { tokio::join!(typing, resizing) };
            tokio::select! {
                ended = ended => ended.map(|(code, ())| Some(code)),
                (_, never) = beside => match never {},
            }
        }
        SessionEnd::Output | SessionEnd::InputOrOutput => {
            let with_input = matches!(session.end, SessionEnd::InputOrOutput);
            let leaving = async {
                match typing.await {
                    InputEnd::Detached => return,
                    InputEnd::Ended if with_input => {
                        let _ = over.send(());
                    }
                    InputEnd::Ended | InputEnd::Refused => {}
                }
                std::future::pending().await
            };
            tokio::select! {
                written = output => written.map(|()| None),
                () = leaving => Ok(None),
                never = resizing => match never {},
            }
        }
    }
}

fn words(error: &crioxide_engine::ports::PortError) -> String {
    crioxide_engine::chain(error.as_ref())
}

/// Hands output on until it ends. Once the session is `over` only what is there already is waited for.
async fn write_output(
    mut output: Box<dyn SessionOutput>,
    mut is_over: oneshot::Receiver<()>,
    sender: &Sender,
    channels: Channels,
) -> Result<(), String> {
    let mut over = false;
    let mut remainder = 0;
    while remainder < REMAINDER {
        let next = if over {
            match tokio::time::timeout(SILENCE, output.next()).await {
                Ok(next) => next,
                Err(_) => break,
            }
        } else {
            tokio::select! {
                biased;
                next = output.next() => next,
                told = &mut is_over => {
                    if told.is_err() {
                        // The session is being dropped.
                        std::future::pending::<()>().await;
                    }
                    over = true;
                    continue;
                }
            }
        };
        let Some((stream, bytes)) = next.map_err(|error| words(&error))? else {
            break;
        };
        if over {
            remainder += bytes.len();
        }
        let channel = match stream {
            OutputStream::Stdout => channels.stdout,
            OutputStream::Stderr => channels.stderr,
        };
        if let Some(channel) = channel {
            let sent = sender.data(channel, bytes).await;
            sent.map_err(|ClientGone| ClientGone.to_string())?;
        }
    }
    Ok(())
}

/// How input came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    /// The client ended it.
    Ended,
    /// The client detached.
    Detached,
    /// Nobody reads it.
    Refused,
}

async fn type_input(
    input: Option<Box<dyn SessionInput>>,
    mut queue: mpsc::Receiver<Bytes>,
    detachable: bool,
) -> InputEnd {
    let Some(mut input) = input else {
        return InputEnd::Refused;
    };
    let mut keys = detachable.then(DetachKeys::default);
    while let Some(bytes) = queue.recv().await {
        let bytes = match &mut keys {
            None => bytes,
            Some(keys) => match keys.look(bytes) {
                Typed::On(bytes) => bytes,
                Typed::Detach => return InputEnd::Detached,
            },
        };
        if !bytes.is_empty() && input.write(&bytes).await.is_err() {
            return InputEnd::Refused;
        }
    }
    let rest = keys.map(|keys| keys.rest()).unwrap_or_default();
    if !rest.is_empty() && input.write(&rest).await.is_err() {
        return InputEnd::Refused;
    }
    match input.end().await {
        Ok(()) => InputEnd::Ended,
        Err(_) => InputEnd::Refused,
    }
}

async fn follow_size(
    terminal: Option<Box<dyn SessionTerminal>>,
    mut sizes: watch::Receiver<Option<TerminalSize>>,
) -> std::convert::Infallible {
    if let Some(terminal) = terminal {
        // The client may have said it before the terminal was there.
        sizes.mark_changed();
        while sizes.changed().await.is_ok() {
            let size = *sizes.borrow_and_update();
            if let Some(size) = size
                && let Err(error) = terminal.resize(size).await
            {
                tracing::warn!("Unable to set terminal size: {}", words(&error));
            }
        }
    }
    std::future::pending().await
}

/// Tells the client how it went, and that nothing more will come.
async fn say(
    outcome: Outcome,
    sender: &Sender,
    channels: Channels,
    version: u8,
) -> Result<(), ClientGone> {
    let error = channels.error.ok_or(ClientGone)?;
    let message = outcome.message(version);
    if !message.is_empty() {
        sender.data(error, message.into()).await?;
    }
    let outputs = [channels.stdout, channels.stderr, channels.error];
    for channel in outputs.into_iter().flatten() {
        sender.end(channel).await?;
    }
    if sender.ends_as_a_whole() {
        sender.close().await?;
    }
    Ok(())
}
