//! Certificates of signers: short-lived ones by Fulcio, and others by a public key infrastructure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::PublicKey;
use crate::policy::file::{Fulcio, Pki};
use crate::signature::SigstoreSignature;

/// The annotation with the signer's certificate.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// The annotation with the certificates between it and an authority.
const CHAIN: &str = "dev.sigstore.cosign/chain";
/// More certificates than this are no chain.
const MAX_CHAIN: usize = 20;
/// 1.3.6.1.5.5.7.3.3, as webpki wants it.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// Who has told Fulcio who the signer is: as plain bytes, and, in newer certificates, as text of ASN.1.
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
/// Alternative names of the subject.
const NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// The certificate that a signature brings along; nothing of it is believed yet.
pub(super) struct Signer {
    leaf: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
}

impl Signer {
    pub(super) fn of(signature: &SigstoreSignature) -> Result<Self, String> {
        let text = signature.annotations.get(CERTIFICATE);
        let leaf = text.ok_or("it has no certificate")?;
        let mut leaf = certificates(leaf.as_bytes())?;
        if leaf.len() != 1 {
            return Err(format!("it has {} certificates of its signer", leaf.len()));
        }
        let chain = match signature.annotations.get(CHAIN) {
            Some(chain) => certificates(chain.as_bytes())?,
            None => Vec::new(),
        };
        if chain.len() > MAX_CHAIN {
            return Err(format!("its chain has {} certificates", chain.len()));
        }
        Ok(Self {
            leaf: leaf.remove(0),
            chain,
        })
    }

    /// The certificate as the log has it.
    pub(super) fn der(&self) -> &[u8] {
        &self.leaf
    }

    /// The signer's key, if Fulcio said at that time (seconds since 1970) that it is the wanted person's.
    pub(super) fn by_fulcio(&self, wanted: &Fulcio, time: i64) -> Result<PublicKey, String> {
        let time = u64::try_from(time).map_err(|_| "the log's time is before 1970".to_owned())?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
        let roots = certificates(&wanted.authority()?)?;
        let key = self.verify(&roots, &[], time)?;
        let certificate = self.parse()?;
        let issuer = issuer(&certificate)?;
        if issuer != wanted.oidc_issuer {
            return Err(format!("its signer was known to `{issuer}`"));
        }
        has_email(&certificate, &wanted.subject_email)?;
        Ok(key)
    }

    /// The signer's key, if an authority says now that it is the wanted one's.
    pub(super) fn by_pki(&self, wanted: &Pki) -> Result<PublicKey, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(now.unwrap_or_default());
        let roots = certificates(&wanted.roots()?)?;
        let between = match wanted.intermediates()? {
            Some(between) => certificates(&between)?,
            None => Vec::new(),
        };
        let key = self.verify(&roots, &between, now)?;
        if let Some(email) = &wanted.subject_email {
            has_email(&self.parse()?, email)?;
        }
        if let Some(host) = &wanted.subject_hostname {
            let name = ServerName::try_from(host.as_str())
                .map_err(|_| format!("the policy's `{host}` is no host name"))?;
            let leaf = EndEntityCert::try_from(&self.leaf).map_err(flawed)?;
            leaf.verify_is_valid_for_subject_name(&name)
                .map_err(|_| format!("its signer is not `{host}`"))?;
        }
        Ok(key)
    }

    fn verify(
        &self,
        roots: &[CertificateDer<'static>],
        between: &[CertificateDer<'static>],
        time: UnixTime,
    ) -> Result<PublicKey, String> {
        let anchors: Vec<TrustAnchor<'_>> = roots
            .iter()
            .map(|root| {
                anchor_from_trusted_cert(root)
                    .map_err(|e| format!("an authority's certificate is not usable: {e}"))
            })
            .collect::<Result<_, _>>()?;
        if anchors.is_empty() {
            return Err("the policy's file of authorities holds none".to_owned());
        }
        let chain: Vec<_> = self.chain.iter().chain(between).cloned().collect();
        let leaf = EndEntityCert::try_from(&self.leaf).map_err(flawed)?;
        let usage = KeyUsage::required(CODE_SIGNING);
        leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &anchors,
            &chain,
            time,
            usage,
            None,
            None,
        )
        .map_err(|e| format!("its certificate is not by a wanted authority: {e}"))?;
        Ok(leaf.subject_public_key_info())
    }

    fn parse(&self) -> Result<Certificate, String> {
        Certificate::from_der(&self.leaf).map_err(flawed)
    }
}

fn flawed(error: impl std::fmt::Display) -> String {
    format!("its certificate makes no sense: {error}")
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("a certificate is not usable: {e}"))
}

/// The values of an extension: more than one is for nobody to choose from.
fn extension<'c>(
    certificate: &'c Certificate,
    id: &ObjectIdentifier,
) -> Result<Option<&'c [u8]>, String> {
    let all = certificate.tbs_certificate.extensions.iter().flatten();
    let mut found = all.filter(|extension| extension.extn_id == *id);
    let first = found.next();
    match found.next() {
        Some(_) => Err(format!("its certificate has the extension {id} twice")),
        None => Ok(first.map(|extension| extension.extn_value.as_bytes())),
    }
}

fn issuer(certificate: &Certificate) -> Result<String, String> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| flawed("an issuer that is no text"))
    };
    let old = extension(certificate, &ISSUER)?.map(text).transpose()?;
    let new = extension(certificate, &ISSUER_V2)?
        .map(|value| String::from_der(value).map_err(flawed))
        .transpose()?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(format!(
            "its certificate names two issuers, `{old}` and `{new}`"
        )),
        (Some(issuer), _) | (None, Some(issuer)) => Ok(issuer),
        (None, None) => Err("its certificate does not say who knew its signer".to_owned()),
    }
}

fn has_email(certificate: &Certificate, wanted: &str) -> Result<(), String> {
    let names = match extension(certificate, &NAMES)? {
        Some(value) => SubjectAltName::from_der(value).map_err(flawed)?.0,
        None => Vec::new(),
    };
    let emails: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::Rfc822Name(email) => Some(email.as_str()),
            _ => None,
        })
        .collect();
    match emails.contains(&wanted) {
        true => Ok(()),
        false => Err(format!(
            "its signer is `{}`, not `{wanted}`",
            emails.join("`, `")
        )),
    }
}
