//! Per-host certificates (`certs.d`) and the TLS configuration made of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Why TLS to a host could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoadCertificatesError {
    /// A directory or file cannot be read.
    #[error("read certificates from `{}`", path.display())]
    Read {
        /// The directory or file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file is not PEM or holds nothing usable.
    #[error("certificate file `{}` is not usable: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A client certificate without its key, or the other way round.
    #[error("`{}` has no matching `{}`", path.display(), missing.display())]
    Unpaired {
        /// The file that is there.
        path: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A certificate and key do not fit together.
    #[error("client certificate `{}` is refused", path.display())]
    ClientCertificate {
        /// The certificate file.
        path: PathBuf,
        /// The TLS library's reason.
        source: rustls::Error,
    },
    /// The cipher suites of the TLS library are not usable.
    #[error("set up TLS")]
    Provider(#[source] rustls::Error),
}

/// What `certs.d` holds for one host.
#[derive(Debug, Default)]
struct HostCertificates {
    authorities: Vec<CertificateDer<'static>>,
    client: Option<ClientCertificate>,
}

#[derive(Debug)]
struct ClientCertificate {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Whether a server's certificate matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verification {
    /// It must be valid for the host.
    Required,
    /// Anything goes: the registry is marked insecure.
    Skipped,
}

/// The TLS configuration for `host` (with port): system roots plus `<directory>/<host>/*.crt`, client
/// certificate from `*.cert` and `*.key`. The first directory that has the host is used.
pub(crate) fn tls_config(
    directories: &[PathBuf],
    host: &str,
    verification: Verification,
    system: &SystemRoots,
) -> Result<ClientConfig, LoadCertificatesError> {
    let certificates = match directories
        .iter()
        .map(|d| d.join(host))
        .find(|d| d.is_dir())
    {
        Some(directory) => HostCertificates::load(&directory)?,
        None => HostCertificates::default(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(LoadCertificatesError::Provider)?;
    let builder = match verification {
        Verification::Required => {
            builder.with_root_certificates(system.with(certificates.authorities))
        }
        Verification::Skipped => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny { provider })),
    };
    match certificates.client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => builder
            .with_client_auth_cert(client.chain, client.key)
            .map_err(|source| LoadCertificatesError::ClientCertificate {
                path: client.path,
                source,
            }),
    }
}

/// The system's trusted certificates, read at first use. They are many, and reading them takes longer than a request.
#[derive(Debug, Default)]
pub(crate) struct SystemRoots(OnceLock<RootCertStore>);

impl SystemRoots {
    /// The system's and some more.
    fn with(&self, authorities: Vec<CertificateDer<'static>>) -> RootCertStore {
        let mut roots = self.0.get_or_init(Self::load).clone();
        let (_, refused) = roots.add_parsable_certificates(authorities);
        if refused > 0 {
            tracing::warn!(
                refused,
                "certificates of certs.d are not usable as authorities"
            );
        }
        roots
    }

    fn load() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "a system certificate cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        roots
    }
}

impl HostCertificates {
    fn load(directory: &Path) -> Result<Self, LoadCertificatesError> {
        let failed = |source| LoadCertificatesError::Read {
            path: directory.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        let mut loaded = Self::default();
        for path in paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => loaded.authorities.extend(certificates(&path)?),
                Some("cert") => loaded.client = Some(client_certificate(&path)?),
                Some("key") if !path.with_extension("cert").exists() => {
                    let missing = path.with_extension("cert");
                    return Err(LoadCertificatesError::Unpaired { path, missing });
                }
                _ => {}
            }
        }
        Ok(loaded)
    }
}

fn client_certificate(path: &Path) -> Result<ClientCertificate, LoadCertificatesError> {
    let key_path = path.with_extension("key");
    if !key_path.exists() {
        return Err(LoadCertificatesError::Unpaired {
            path: path.to_owned(),
            missing: key_path,
        });
    }
    let text = read(&key_path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|e| LoadCertificatesError::Pem {
        path: key_path,
        reason: e.to_string(),
    })?;
    Ok(ClientCertificate {
        path: path.to_owned(),
        chain: certificates(path)?,
        key,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadCertificatesError> {
    let pem = |reason: String| LoadCertificatesError::Pem {
        path: path.to_owned(),
        reason,
    };
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem(e.to_string()))?;
    if found.is_empty() {
        return Err(pem("no certificate in it".to_owned()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadCertificatesError> {
    std::fs::read(path).map_err(|source| LoadCertificatesError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Accepts every certificate; signatures are still checked, so the handshake itself is sound.
#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
