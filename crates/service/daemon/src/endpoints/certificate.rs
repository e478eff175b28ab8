//! A certificate for a server that was given places for one, and no files.

use std::path::Path;

use crioxide_engine::ports::PortResult;
use crioxide_files::{AtomicOptions, Sync, atomic_write};

/// Makes a self-signed certificate and its key where neither file exists. A single one is left to who put it there.
pub(crate) fn make_if_missing(certificate: &Path, key: &Path) -> PortResult<()> {
    if certificate.try_exists()? || key.try_exists()? {
        return Ok(());
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if host.is_ascii() && !host.is_empty() {
        names.push(host);
    }
    let made = rcgen::generate_simple_self_signed(names)?;
    for path in [certificate, key] {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
    }
    let options = |mode| AtomicOptions {
        mode,
        sync: Sync::Data,
    };
    // The key first: a certificate alone would look like somebody's own.
    let pem = made.signing_key.serialize_pem();
    atomic_write(key, pem.as_bytes(), options(0o600))?;
    atomic_write(certificate, made.cert.pem().as_bytes(), options(0o644))?;
    tracing::info!("Made a self-signed certificate: {}", certificate.display());
    Ok(())
}
