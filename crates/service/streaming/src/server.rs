//! The HTTP server that clients come to with their tokens.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crioxide_cri_api::v1;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::command::{self, Wanted};
use crate::forward;
use crate::handshake::{Agreement, Carrier, Kind, Refusal, agree};
use crate::socket::{Activity, Gone, SharedTcp, Socket};
use crate::target::Target;
use crate::tls::Tls;
use crate::tokens::{NoToken, StreamRequest, Tokens};
use crate::transport::Transport;
use crate::websocket;

/// How long a client may take for a handshake or the head of its request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a connection could not be taken for lack of something.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// When a silent connection is probed, and how often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Address to listen on; what is no address stands for all.
    pub address: String,
    /// Port, 0 for any.
    pub port: u16,
    /// How long a session may be silent; zero for ever.
    pub idle_timeout: Duration,
    /// How long a client may take to open its streams.
    pub creation_timeout: Duration,
    /// TLS, if it is spoken.
    pub tls: Option<crate::TlsSettings>,
}

impl StreamSettings {
    /// `StreamCreationTimeout` of Kubernetes.
    pub const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
}

/// Why there is no address for a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefusal {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// Too many addresses are waiting to be used.
    #[error("maximum number of in-flight requests exceeded")]
    TooMany,
    /// The system gives no random numbers.
    #[error("no random numbers for a token")]
    NoRandomness,
}

#[derive(Debug)]
struct Shared {
    base: String,
    tokens: Tokens,
    settings: StreamSettings,
    tls: Option<Arc<Tls>>,
}

/// Gives out addresses.
#[derive(Debug, Clone)]
pub struct Streaming(Arc<Shared>);

impl Streaming {
    fn address(&self, path: &str, request: StreamRequest) -> Result<String, StreamRefusal> {
        let token = self
            .0
            .tokens
            .insert(request)
            .map_err(|reason| match reason {
                NoToken::TooMany => StreamRefusal::TooMany,
                NoToken::NoRandomness => StreamRefusal::NoRandomness,
            })?;
        Ok(format!("{}/{path}/{token}", self.0.base))
    }

    /// The address for an exec session.
    ///
    /// # Errors
    /// The request is invalid, or too many wait.
    pub fn exec(&self, request: v1::ExecRequest) -> Result<String, StreamRefusal> {
        check(
            &request.container_id,
            Wanted {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            },
        )?;
        self.address("exec", StreamRequest::Exec(request))
    }

    /// The address for an attach session.
    ///
    /// # Errors
    /// The request is invalid, or too many wait.
    pub fn attach(&self, request: v1::AttachRequest) -> Result<String, StreamRefusal> {
        check(
            &request.container_id,
            Wanted {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            },
        )?;
        self.address("attach", StreamRequest::Attach(request))
    }

    /// The address for port-forward sessions.
    ///
    /// # Errors
    /// The request is invalid, or too many wait.
    pub fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, StreamRefusal> {
        if request.pod_sandbox_id.is_empty() {
            return Err(StreamRefusal::Invalid("missing required pod_sandbox_id"));
        }
        self.address("portforward", StreamRequest::PortForward(request))
    }
}

fn check(container: &str, wanted: Wanted) -> Result<(), StreamRefusal> {
    if container.is_empty() {
        return Err(StreamRefusal::Invalid("missing required container_id"));
    }
    if wanted.tty && wanted.stderr {
        return Err(StreamRefusal::Invalid("tty and stderr cannot both be true"));
    }
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(StreamRefusal::Invalid(
            "one of stdin, stdout, or stderr must be set",
        ));
    }
    Ok(())
}

/// The server, listening.
#[derive(Debug)]
pub struct StreamServer {
    listener: TcpListener,
    streaming: Streaming,
}

impl StreamServer {
    /// Listens. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address is taken, or the certificate cannot be used.
    pub async fn bind(
        settings: StreamSettings,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let tls = match settings.tls.clone() {
            None => None,
            Some(files) => Some(Arc::new(Tls::load(files)?)),
        };
        let address: IpAddr = settings
            .address
            .parse()
            .unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let listener = match TcpListener::bind(SocketAddr::new(address, settings.port)).await {
            // A host without IPv6 has all addresses of version 4.
            Err(error) if address.is_unspecified() && address.is_ipv6() => {
                let all = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
                TcpListener::bind(SocketAddr::new(all, settings.port))
                    .await
                    .map_err(|_| error)?
            }
            listener => listener?,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr()?);
        let shared = Shared {
            base,
            tokens: Tokens::default(),
            settings,
            tls,
        };
        Ok(Self {
            listener,
            streaming: Streaming(Arc::new(shared)),
        })
    }

    /// What gives out addresses.
    #[must_use]
    pub fn streaming(&self) -> Streaming {
        self.streaming.clone()
    }

    /// Serves until it is dropped, which ends all sessions.
    pub async fn serve(self, target: Arc<dyn Target>) -> Infallible {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, _)) => {
                        let client = serve_client(
                            Arc::clone(&self.streaming.0),
                            Arc::clone(&target),
                            tcp,
                        );
                        clients.spawn(client);
                    }
                    Err(error) => {
                        tracing::warn!("Failed to take a streaming connection: {error}");
                        tokio::time::sleep(SHORTAGE_PAUSE).await;
                    }
                },
                _ = clients.join_next(), if !clients.is_empty() => {}
            }
        }
    }
}

/// A session that was agreed upon, and the connection it will get.
struct Agreed {
    request: StreamRequest,
    agreement: Agreement,
    upgrade: OnUpgrade,
}

async fn serve_client(shared: Arc<Shared>, target: Arc<dyn Target>, tcp: TcpStream) {
    let socket = match tokio::time::timeout(PATIENCE, prepare(&shared, tcp)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            tracing::debug!("A streaming client's handshake failed: {error}");
            return;
        }
        Err(_) => return,
    };
    let agreed = std::sync::Mutex::new(None);
    let answer = service_fn(|mut request: Request<Incoming>| {
        let response = match consider(&shared, &request) {
            Ok((stream, agreement, headers)) => {
                *agreed.lock().expect("no holder of this lock panics") = Some(Agreed {
                    request: stream,
                    agreement,
                    upgrade: hyper::upgrade::on(&mut request),
                });
                respond(StatusCode::SWITCHING_PROTOCOLS, "", headers)
            }
            Err(refusal) => {
                let mut headers = HeaderMap::new();
                for (name, value) in refusal.headers {
                    headers.append(name, value);
                }
                respond(refusal.status, &refusal.text, headers)
            }
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(32 << 10)
        .serve_connection(TokioIo::new(socket), answer)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!("A streaming client's request failed: {error}");
    }
    let agreed = agreed.into_inner().expect("no holder of this lock panics");
    if let Some(agreed) = agreed {
        run(&shared, target, agreed).await;
    }
}

async fn prepare(shared: &Shared, tcp: TcpStream) -> io::Result<Socket> {
    tcp.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&tcp, true)?;
    rustix::net::sockopt::set_tcp_keepidle(&tcp, KEEP_ALIVE)?;
    rustix::net::sockopt::set_tcp_keepintvl(&tcp, KEEP_ALIVE)?;
    let tcp = SharedTcp::new(tcp);
    let gone = Gone::of(&tcp);
    match &shared.tls {
        None => Ok(Socket::new(tcp, gone)),
        Some(tls) => Ok(Socket::new(tls.accept(tcp).await?, gone)),
    }
}

/// What a request leads to. A token is used up by it, whatever comes out.
fn consider(
    shared: &Shared,
    request: &Request<Incoming>,
) -> Result<(StreamRequest, Agreement, HeaderMap), Refusal> {
    let not_found = || Refusal::new(StatusCode::NOT_FOUND, "404 page not found\n");
    if *request.method() != Method::GET && *request.method() != Method::POST {
        let mut refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
        let both = HeaderValue::from_static("GET, POST");
        refusal.headers.push((ALLOW, both));
        return Err(refusal);
    }
    let mut parts = request.uri().path().trim_start_matches('/').split('/');
    let (Some(path), Some(token), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(not_found());
    };
    if !matches!(path, "exec" | "attach" | "portforward") {
        return Err(not_found());
    }
    let stream = shared.tokens.take(token).ok_or_else(not_found)?;
    let kind = match (&stream, path) {
        (StreamRequest::Exec(_), "exec") | (StreamRequest::Attach(_), "attach") => Kind::Command,
        (StreamRequest::PortForward(_), "portforward") => Kind::Forward,
        _ => return Err(not_found()),
    };
    let (agreement, headers) = agree(kind, request.method(), request.headers())?;
    Ok((stream, agreement, headers))
}

fn respond(status: StatusCode, text: &str, headers: HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !text.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}

async fn run(shared: &Shared, target: Arc<dyn Target>, agreed: Agreed) {
    let Agreed {
        request,
        agreement,
        upgrade,
    } = agreed;
    let upgraded = match tokio::time::timeout(PATIENCE, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => {
            tracing::debug!("A streaming client's connection could not be upgraded: {error}");
            return;
        }
        Err(_) => return,
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else {
        return;
    };
    let mut socket = parts.io.into_inner();
    socket.give_back(parts.read_buf);
    let activity = Activity::default();
    let (transport, writing) = match agreement.carrier {
        Carrier::Spdy => Transport::spdy(socket, &activity),
        Carrier::Tunnel => Transport::spdy(websocket::tunnel(socket).await, &activity),
        Carrier::WebSocket(coding) => Transport::websocket(socket, coding, &activity).await,
    };
    let session = serve_session(shared, target, request, agreement, transport);
    tokio::select! {
        () = session => {}
        () = activity.idle(shared.settings.idle_timeout) => {
            tracing::info!("A streaming session was silent for too long and is closed");
        }
        // It says nothing as long as the client is there; if it is not, the session sees that too.
        never = async { let _ = writing.await; std::future::pending::<Infallible>().await } => match never {},
    }
}

async fn serve_session(
    shared: &Shared,
    target: Arc<dyn Target>,
    request: StreamRequest,
    agreement: Agreement,
    transport: Transport,
) {
    let patience = shared.settings.creation_timeout;
    let version = agreement.version;
    match request {
        StreamRequest::Exec(request) => {
            let wanted = Wanted {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            };
            let what = "error executing command in container";
            let open = target.exec(&request);
            command::serve(transport, wanted, version, patience, what, open).await;
        }
        StreamRequest::Attach(request) => {
            let wanted = Wanted {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                tty: request.tty,
            };
            let what = "error attaching to container";
            let open = target.attach(&request);
            command::serve(transport, wanted, version, patience, what, open).await;
        }
        StreamRequest::PortForward(request) => {
            let pod = request.pod_sandbox_id;
            if matches!(agreement.carrier, Carrier::WebSocket(_)) {
                let ports: Vec<u16> = request
                    .port
                    .iter()
                    .filter_map(|port| u16::try_from(*port).ok().filter(|port| *port > 0))
                    .take(127)
                    .collect();
                forward::serve_channels(transport, target, pod, &ports).await;
            } else {
                forward::serve_streams(transport, target, pod, patience).await;
            }
        }
    }
}
