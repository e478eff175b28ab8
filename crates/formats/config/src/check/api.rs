//! Checks of `[crio.api]`.

use super::names::CIPHER_SUITES;
use crate::diagnostic::{ConfigError, Warning};
use crate::load::resolve::Origins;
use crate::tables::Config;
use crate::value::choice::TlsVersion;

pub(super) fn check(
    config: &mut Config,
    origins: &Origins,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    let api = &mut config.api;
    if api.stream_enable_tls {
        if api.stream_tls_cert.is_none() {
            return Err(origins.refuse(
                "crio.api.stream_tls_cert",
                "",
                "stream TLS cert path is empty",
            ));
        }
        if api.stream_tls_key.is_none() {
            return Err(origins.refuse(
                "crio.api.stream_tls_key",
                "",
                "stream TLS key path is empty",
            ));
        }
    }
    let key = "crio.api.tls_cipher_suites";
    for suite in &api.tls_cipher_suites {
        if !CIPHER_SUITES.contains(&suite.as_str()) {
            return Err(origins.refuse(
                key,
                suite,
                format!("unsupported TLS cipher suite {suite:?}"),
            ));
        }
    }
    if api.tls_min_version == TlsVersion::Tls13 && !api.tls_cipher_suites.is_empty() {
        warnings.push(Warning::Adjusted {
            origin: origins.of(key),
            key: key.to_owned(),
            given: api.tls_cipher_suites.join(","),
            used: "[]".to_owned(),
            reason: "cipher suites cannot be chosen for TLS 1.3",
        });
        api.tls_cipher_suites.clear();
    }
    Ok(())
}
