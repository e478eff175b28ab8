//! The way to a streaming server, by the address that the CRI gave.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection, plain or by TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Io for T {}

/// A connection to a streaming server.
pub struct Connection {
    /// The connection.
    pub io: Box<dyn Io>,
    /// `address:port`.
    pub host: String,
    /// `/exec/<token>` and the like.
    pub path: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What a client trusts and shows, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The authority that the server's certificate has to be of.
    pub authority: String,
    /// The client's certificate and key.
    pub certificate: Option<(String, String)>,
}

/// The server's answer was not the expected `101`.
#[derive(Debug)]
pub struct Refused {
    /// Status.
    pub status: u16,
    /// Head and what came of the body.
    pub text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused with {}: {}", self.status, self.text)
    }
}

impl std::error::Error for Refused {}

/// Connects to the server of an address.
///
/// # Errors
/// It is not there, or TLS fails.
pub async fn connect(url: &str, identity: Option<&Identity>) -> Result<Connection> {
    let (scheme, rest) = url.split_once("://").context("the address has no scheme")?;
    let (host, path) = rest.split_once('/').context("the address has no path")?;
    let tcp = TcpStream::connect(host)
        .await
        .with_context(|| format!("connect to {host}"))?;
    tcp.set_nodelay(true)?;
    let io: Box<dyn Io> = match (scheme, identity) {
        ("http", _) => Box::new(tcp),
        ("https", Some(identity)) => {
            let connector = tokio_rustls::TlsConnector::from(tls(identity)?);
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let name = ServerName::try_from(name.to_owned())?;
            Box::new(connector.connect(name, tcp).await?)
        }
        _ => bail!("cannot connect to {url}"),
    };
    Ok(Connection {
        io,
        host: host.to_owned(),
        path: format!("/{path}"),
    })
}

fn tls(identity: &Identity) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(identity.authority.as_bytes()) {
        roots.add(authority?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match &identity.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
    };
    Ok(Arc::new(config))
}

/// Sends a request with these header lines and reads the answer's head; anything but `101` is [`Refused`].
pub(super) async fn upgrade(connection: &mut Connection, lines: &[String]) -> Result<String> {
    let mut request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\n",
        connection.path, connection.host
    );
    for line in lines {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    connection.io.write_all(request.as_bytes()).await?;
    connection.io.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.io.read(&mut byte).await? == 0 {
            bail!(
                "the server closed within its answer: {}",
                String::from_utf8_lossy(&head)
            );
        }
        head.push(byte[0]);
    }
    let mut head = String::from_utf8(head)?;
    let status: u16 = head
        .split_whitespace()
        .nth(1)
        .context("no status")?
        .parse()?;
    if status == 101 {
        return Ok(head);
    }
    let mut body = vec![0; 4096];
    let count = connection.io.read(&mut body).await.unwrap_or(0);
    head.push_str(&String::from_utf8_lossy(&body[..count]));
    bail!(Refused { status, text: head })
}

/// The value of a header in an answer's head.
pub(super) fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}
