//! TLS of the servers for others than the kubelet, with files that may change.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Files and limits.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// What the server is called in the log.
    pub server: &'static str,
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM certificates of the authorities whose certificates clients must have; `None` asks for none.
    pub client_authorities: Option<PathBuf>,
    /// Refuse TLS 1.2.
    pub only_tls13: bool,
    /// IANA names of the suites of TLS 1.2; empty takes all.
    pub cipher_suites: Vec<String>,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The files do not go together.
    #[error("cannot use the certificate `{}`", path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// No client could be accepted.
    #[error("cannot use the client authorities in `{}`", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
}

/// What tells one content of a file from the next. (A change in place within the clock's tick keeps its size rarely.)
type Stamp = Vec<Option<(u64, u64, i64, i64, u64)>>;

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamp: Stamp,
}

/// The configuration in force.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    loaded: Mutex<Loaded>,
}

impl Tls {
    /// The files as they are now.
    ///
    /// # Errors
    /// They cannot be read or do not go together.
    pub fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        let stamp = stamp(&settings);
        let config = load(&settings)?;
        Ok(Self {
            settings,
            loaded: Mutex::new(Loaded { config, stamp }),
        })
    }

    /// The configuration for the next connection, of the files as they are now. What cannot be used leaves the last one
    /// in force. Reads files.
    fn current(&self) -> Arc<ServerConfig> {
        let now = stamp(&self.settings);
        let mut loaded = self.loaded.lock().expect("no holder of this lock panics");
        if now != loaded.stamp {
            loaded.stamp = now;
            match load(&self.settings) {
                Ok(config) => {
                    tracing::info!("Reloaded the certificates of the {}", self.settings.server);
                    loaded.config = config;
                }
                Err(error) => tracing::warn!(
                    "Failed to reload the certificates of the {}: {}",
                    self.settings.server,
                    crioxide_engine::chain(&error)
                ),
            }
        }
        Arc::clone(&loaded.config)
    }

    /// Completes a handshake, by the files as they are now.
    ///
    /// # Errors
    /// The client left, or there is no agreement.
    pub async fn accept<T>(
        self: &Arc<Self>,
        connection: T,
    ) -> io::Result<tokio_rustls::server::TlsStream<T>>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let tls = Arc::clone(self);
        let config = tokio::task::spawn_blocking(move || tls.current())
            .await
            .map_err(io::Error::other)?;
        tokio_rustls::TlsAcceptor::from(config)
            .accept(connection)
            .await
    }
}

fn stamp(settings: &TlsSettings) -> Stamp {
    [
        Some(&settings.certificate),
        Some(&settings.key),
        settings.client_authorities.as_ref(),
    ]
    .into_iter()
    .flatten()
    .map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((
            metadata.dev(),
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.len(),
        ))
    })
    .collect()
}

fn load(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        read.map_err(file(path))
    };
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(file(&settings.key))?;
    let unusable = |source| TlsError::Unusable {
        path: settings.certificate.clone(),
        source,
    };
    let provider = Arc::new(provider(&settings.cipher_suites));
    let versions: &[&rustls::SupportedProtocolVersion] = if settings.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = match &settings.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(unusable)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|source| TlsError::Authorities {
                path: path.clone(),
                source,
            })?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The suites of TLS 1.3 are never restricted, as in Go.
fn provider(names: &[String]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !names.is_empty() {
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            name.starts_with("TLS13_") || names.contains(&name)
        });
    }
    provider
}
