//! Signatures by certificates, made here with an authority and a log of the test's own.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SigningKey,
    date_time_ymd,
};

use super::*;

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const ISSUER: &str = "https://accounts.example.org";
/// 2023-11-14, within the certificate's days.
const LOGGED: i64 = 1_700_000_000;

struct Authority {
    root: Certificate,
    between: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let (root, key) = (ca("root"), KeyPair::generate().unwrap());
    let root_certificate = root.self_signed(&key).unwrap();
    let root_issuer = Issuer::new(root, key);
    let (mut between, key) = (ca("between"), KeyPair::generate().unwrap());
    between.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let between_certificate = between.signed_by(&key, &root_issuer).unwrap();
    Authority {
        root: root_certificate,
        between: between_certificate,
        issuer: Issuer::new(between, key),
    }
}

struct Person {
    key: KeyPair,
    certificate: Certificate,
}

fn person(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Person {
    let mut params = CertificateParams::default();
    let email = SanType::Rfc822Name("me@example.org".try_into().unwrap());
    let host = SanType::DnsName("build.example.org".try_into().unwrap());
    params.subject_alt_names = vec![email, host];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.not_before = date_time_ymd(2023, 11, 14);
    params.not_after = date_time_ymd(2023, 11, 15);
    params.custom_extensions = vec![issuer_extension(ISSUER)];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    Person { key, certificate }
}

fn issuer_extension(issuer: &str) -> CustomExtension {
    let id = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
    CustomExtension::from_oid_content(&id, issuer.as_bytes().to_vec())
}

fn fulcio(authority: &Authority, log: &KeyPair) -> SigstoreSigned {
    policy(serde_json::json!({
        "fulcio": {
            "caData": STANDARD.encode(authority.root.pem()),
            "oidcIssuer": ISSUER, "subjectEmail": "me@example.org",
        },
        "rekorPublicKeyData": STANDARD.encode(log.public_key_pem()),
    }))
}

fn policy(json: serde_json::Value) -> SigstoreSigned {
    serde_json::from_value(json).unwrap()
}

/// What the log says about a signature by that certificate at that time.
fn logged(image: &Image, made: &str, person: &Person, log: &KeyPair, time: i64) -> String {
    let hash: String = Sha256::digest(&image.payload)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let body = serde_json::json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": hash}},
        "signature": {"content": made,
            "publicKey": {"content": STANDARD.encode(person.certificate.pem())}}}});
    let body = STANDARD.encode(body.to_string());
    let signed =
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"ab","logIndex":7}}"#);
    let promise = STANDARD.encode(log.sign(signed.as_bytes()).unwrap());
    format!(r#"{{"SignedEntryTimestamp":"{promise}","Payload":{signed}}}"#)
}

struct Case {
    image: Image,
    authority: Authority,
    log: KeyPair,
}

impl Case {
    fn new() -> Self {
        Self {
            image: Image::new(),
            authority: authority(),
            log: KeyPair::generate().unwrap(),
        }
    }

    fn verdict(&self, wanted: &SigstoreSigned, person: &Person, time: i64) -> Result<(), String> {
        let made = STANDARD.encode(person.key.sign(&self.image.payload).unwrap());
        let bundle = logged(&self.image, &made, person, &self.log, time);
        let chain = format!(
            "{}{}",
            self.authority.between.pem(),
            self.authority.root.pem()
        );
        let annotations = [
            (SIGNATURE, made.as_str()),
            (CERTIFICATE, &person.certificate.pem()),
            (CHAIN, &chain),
            (BUNDLE, &bundle),
        ];
        self.image.verdict(wanted, &annotations)
    }
}

#[test]
fn fulcio_must_have_known_the_signer_when_the_log_took_the_signature() {
    let case = Case::new();
    let wanted = fulcio(&case.authority, &case.log);
    let me = person(&case.authority, |_| ());
    case.verdict(&wanted, &me, LOGGED).unwrap();

    let refused = |person: &Person, time: i64, reason: &str| {
        let error = case.verdict(&wanted, person, time).unwrap_err();
        assert!(error.contains(reason), "{error}");
    };
    refused(&me, LOGGED + 200_000, "authority");
    refused(&me, LOGGED - 200_000, "authority");
    refused(&me, -1, "1970");
    let other = person(&authority(), |_| ());
    refused(&other, LOGGED, "authority");
    let email = |email: &str| SanType::Rfc822Name(email.try_into().unwrap());
    let you = person(&case.authority, |params| {
        params.subject_alt_names = vec![email("you@example.org")];
    });
    refused(&you, LOGGED, "you@example.org");
    let elsewhere = person(&case.authority, |params| {
        params.custom_extensions = vec![issuer_extension("https://evil.example.org")];
    });
    refused(&elsewhere, LOGGED, "evil");
    let nowhere = person(&case.authority, |params| params.custom_extensions.clear());
    refused(&nowhere, LOGGED, "does not say");
    let server = person(&case.authority, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    refused(&server, LOGGED, "authority");
    // The newer way to say who knew the signer must not say another thing.
    let text = |issuer: &str| {
        let content = [
            &[0x0c, u8::try_from(issuer.len()).unwrap()],
            issuer.as_bytes(),
        ]
        .concat();
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], content)
    };
    let new = person(&case.authority, |params| {
        params.custom_extensions = vec![text(ISSUER)]
    });
    case.verdict(&wanted, &new, LOGGED).unwrap();
    let two = person(&case.authority, |params| {
        params
            .custom_extensions
            .push(text("https://evil.example.org"));
    });
    refused(&two, LOGGED, "two issuers");
}

#[test]
fn the_log_must_have_this_certificate_and_the_key_must_be_its_own() {
    let case = Case::new();
    let wanted = fulcio(&case.authority, &case.log);
    let (me, again) = (
        person(&case.authority, |_| ()),
        person(&case.authority, |_| ()),
    );
    let made = STANDARD.encode(me.key.sign(&case.image.payload).unwrap());
    let bundle = |person: &Person| logged(&case.image, &made, person, &case.log, LOGGED);
    let chain = case.authority.between.pem();
    let verdict = |certificate: &Person, bundle: &str| {
        let pem = certificate.certificate.pem();
        let annotations = [
            (SIGNATURE, made.as_str()),
            (CERTIFICATE, &pem),
            (CHAIN, &chain),
            (BUNDLE, bundle),
        ];
        case.image.verdict(&wanted, &annotations)
    };
    verdict(&me, &bundle(&me)).unwrap();
    let error = verdict(&me, &bundle(&again)).unwrap_err();
    assert!(error.contains("another signature"), "{error}");
    let error = verdict(&again, &bundle(&again)).unwrap_err();
    assert!(error.contains("none of the keys"), "{error}");
    let error = case
        .image
        .verdict(&wanted, &[(SIGNATURE, &made)])
        .unwrap_err();
    assert!(error.contains("no certificate"), "{error}");
}

#[test]
fn an_authority_of_ones_own_needs_no_log() {
    let case = Case::new();
    let pki = |names: serde_json::Value| {
        let mut pki = serde_json::json!({
            "caRootsData": STANDARD.encode(case.authority.root.pem()),
            "caIntermediatesData": STANDARD.encode(case.authority.between.pem()),
        });
        pki.as_object_mut()
            .unwrap()
            .extend(names.as_object().unwrap().clone());
        policy(serde_json::json!({ "pki": pki }))
    };
    let years = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(4000, 1, 1);
    };
    let me = person(&case.authority, years);
    let made = STANDARD.encode(me.key.sign(&case.image.payload).unwrap());
    let pem = me.certificate.pem();
    let annotations = [(SIGNATURE, made.as_str()), (CERTIFICATE, pem.as_str())];
    for (names, accepted) in [
        (serde_json::json!({"subjectEmail": "me@example.org"}), true),
        (
            serde_json::json!({"subjectEmail": "you@example.org"}),
            false,
        ),
        (
            serde_json::json!({"subjectHostname": "build.example.org"}),
            true,
        ),
        (serde_json::json!({"subjectHostname": "example.org"}), false),
    ] {
        let verdict = case.image.verdict(&pki(names.clone()), &annotations);
        assert_eq!(verdict.is_ok(), accepted, "{names}: {verdict:?}");
    }
    let old = person(&case.authority, |_| ());
    let made = STANDARD.encode(old.key.sign(&case.image.payload).unwrap());
    let pem = old.certificate.pem();
    let annotations = [(SIGNATURE, made.as_str()), (CERTIFICATE, pem.as_str())];
    let wanted = pki(serde_json::json!({"subjectEmail": "me@example.org"}));
    let error = case.image.verdict(&wanted, &annotations).unwrap_err();
    assert!(error.contains("authority"), "{error}");
}
