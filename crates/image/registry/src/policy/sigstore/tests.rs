mod certified;

use super::*;
use crate::policy::identity::Identity;
use crioxide_names::{Digest as ManifestDigest, ImageReference};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs openssl; `None` where it is not installed.
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: needs openssl");
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    Some(output.stdout)
}

/// A key pair of each usual kind: the private key's file and the public key.
fn key(directory: &Path, name: &str) -> Option<(String, Vec<u8>)> {
    let path = directory.join(name).display().to_string();
    let made = ["genpkey", "-out", &path];
    let kind: &[&str] = match name {
        "rsa" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        _ => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    };
    openssl(&[&made[..], kind].concat(), b"")?;
    let public = openssl(&["pkey", "-in", &path, "-pubout"], b"")?;
    Some((path, public))
}

fn sign(private: &str, message: &[u8]) -> String {
    let made = openssl(&["dgst", "-sha256", "-sign", private], message).unwrap();
    STANDARD.encode(made)
}

fn wanted(keys: &[&[u8]], log: Option<&[u8]>) -> SigstoreSigned {
    let keys: Vec<String> = keys.iter().map(|key| STANDARD.encode(key)).collect();
    let mut json = serde_json::json!({"keyDatas": keys});
    if let Some(log) = log {
        json["rekorPublicKeyData"] = STANDARD.encode(log).into();
    }
    let wanted: SigstoreSigned = serde_json::from_value(json).unwrap();
    assert!(matches!(
        wanted.signed_identity,
        Identity::MatchRepoDigestOrExact {}
    ));
    wanted
}

struct Image {
    manifest: ManifestDigest,
    reference: ImageReference,
    payload: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let manifest = ManifestDigest::parse(&format!("sha256:{}", "1".repeat(64))).unwrap();
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"quay.io/a/b:1"}},"image":{{"docker-manifest-digest":"{manifest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        Self {
            manifest,
            reference: ImageReference::parse("quay.io/a/b:1").unwrap(),
            payload: payload.into_bytes(),
        }
    }

    fn verdict(&self, wanted: &SigstoreSigned, annotations: &[(&str, &str)]) -> Result<(), String> {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let signature = Signature::Sigstore(SigstoreSignature {
            media_type: MEDIA_TYPE.to_owned(),
            payload: self.payload.clone(),
            annotations: annotations.collect(),
        });
        let signed = Signed {
            reference: Some(&self.reference),
            manifest: &self.manifest,
            signatures: &[signature],
        };
        verify(wanted, signed)
    }
}

#[test]
fn one_of_the_keys_must_have_signed_this() {
    let directory = tempfile::tempdir().unwrap();
    let mut image = Image::new();
    for name in ["rsa", "ec"] {
        let Some((private, public)) = key(directory.path(), name) else {
            return;
        };
        let (_, other) = key(directory.path(), "other").unwrap();
        let made = sign(&private, &image.payload);
        let with = |made: &str| [(SIGNATURE, made.to_owned())];
        let annotations = with(&made);
        let annotations = annotations.each_ref().map(|(k, v)| (*k, v.as_str()));
        image
            .verdict(&wanted(&[&other, &public], None), &annotations)
            .unwrap();
        let error = image
            .verdict(&wanted(&[&other], None), &annotations)
            .unwrap_err();
        assert!(error.contains("none of the keys"), "{error}");
        let error = image.verdict(&wanted(&[&public], None), &[]).unwrap_err();
        assert!(error.contains("without a signature"), "{error}");
        let good = image.payload.clone();
        image.payload.push(b' ');
        assert!(
            image
                .verdict(&wanted(&[&public], None), &annotations)
                .is_err()
        );
        image.payload = good;
    }
}

#[test]
fn the_log_must_have_this_very_signature() {
    let directory = tempfile::tempdir().unwrap();
    let Some((private, public)) = key(directory.path(), "ec") else {
        return;
    };
    let (log_private, log_public) = key(directory.path(), "log").unwrap();
    let image = Image::new();
    let made = sign(&private, &image.payload);
    let bundle = |signature: &str| {
        let hash: String = Sha256::digest(&image.payload)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let body = serde_json::json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hash}},
            "signature": {"content": signature, "publicKey": {"content": STANDARD.encode(&public)}}}});
        let body = STANDARD.encode(body.to_string());
        let signed =
            format!(r#"{{"body":"{body}","integratedTime":1700000000,"logID":"ab","logIndex":7}}"#);
        let promise = sign(&log_private, signed.as_bytes());
        format!(
            r#"{{"SignedEntryTimestamp":"{promise}","Payload":{{"logIndex": 7,"body":"{body}","integratedTime":1700000000,"logID":"ab"}}}}"#
        )
    };
    let right = bundle(&made);
    let wanted_log = wanted(&[&public], Some(&log_public));
    image
        .verdict(&wanted_log, &[(SIGNATURE, &made), (BUNDLE, &right)])
        .unwrap();
    for (bundle, problem) in [
        (bundle("AAAA"), "another signature"),
        (
            right.replace(r#""logIndex": 7"#, r#""logIndex":8"#),
            "none of its keys",
        ),
        ("{}".to_owned(), "makes no sense"),
    ] {
        let error = image
            .verdict(&wanted_log, &[(SIGNATURE, &made), (BUNDLE, &bundle)])
            .unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let error = image
        .verdict(&wanted_log, &[(SIGNATURE, &made)])
        .unwrap_err();
    assert!(error.contains("says nothing"), "{error}");
}
