use super::*;

fn policy(text: &str) -> Result<Policy, LoadPolicyError> {
    Policy::parse(Path::new("/etc/containers/policy.json"), text)
}

#[test]
fn the_most_specific_scope_decides() {
    let policy = policy(
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "quay.io/good":[{"type":"insecureAcceptAnything"}],
            "quay.io/good/bad":[{"type":"reject"}],
            "*.example.com":[{"type":"insecureAcceptAnything"}],
            "localhost:5000":[{"type":"insecureAcceptAnything"}]},
            "oci":{"/images":[{"type":"insecureAcceptAnything"}]},
            "dir":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
    )
    .unwrap();
    let allowed = |transport, identity: &str| policy.check(transport, identity).is_ok();
    assert!(allowed(Transport::Docker, "quay.io/good/app:1"));
    assert!(!allowed(Transport::Docker, "quay.io/good/bad:1"));
    assert!(!allowed(Transport::Docker, "quay.io/goodness:1"));
    assert!(allowed(Transport::Docker, "a.b.example.com/x:1"));
    assert!(allowed(Transport::Docker, "localhost:5000/x:1"));
    assert!(!allowed(Transport::Docker, "localhost:5001/x:1"));
    assert!(allowed(Transport::Oci, "/images/a/b:latest"));
    assert!(!allowed(Transport::Oci, "/image:latest"));
    assert!(allowed(Transport::Dir, "/anywhere"));
    assert!(!allowed(Transport::DockerArchive, "/anywhere"));
}

#[test]
fn every_requirement_must_hold_and_signatures_are_named() {
    let policy = policy(
        r#"{"default":[{"type":"insecureAcceptAnything"},
            {"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","signedIdentity":{"type":"matchExact"}}]}"#,
    )
    .unwrap();
    let wanted = policy.check(Transport::Docker, "quay.io/x:1").unwrap();
    assert_eq!(wanted, Wanted::Signatures);
    let signed = Signed {
        reference: None,
        manifest: &Digest::parse(&format!("sha256:{}", "1".repeat(64))).unwrap(),
        signatures: &[],
    };
    let error = policy
        .verify(Transport::Docker, "quay.io/x:1", signed)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("signedBy") && error.contains("policy.json") && error.contains("default"),
        "{error}"
    );
}

#[test]
fn flawed_files_are_refused() {
    for text in [
        "{}",
        r#"{"default":[]}"#,
        r#"{"default":[{"type":"accept"}]}"#,
        r#"{"default":[{"type":"reject","extra":1}]}"#,
        r#"{"default":[{"type":"sigstoreSigned","keyPath":"/k","keyPat":"/k"}]}"#,
        r#"{"default":[{"type":"reject"}],"transport":{}}"#,
        r#"{"default":[{"type":"signedBy","keyType":"GPGKeys"}]}"#,
        r#"{"default":[{"type":"signedBy","keyType":"X509Certificates","keyPath":"/k"}]}"#,
        r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","keyData":""}]}"#,
        r#"{"default":[{"type":"sigstoreSigned","keyPath":"/k","keyDatas":[]}]}"#,
        r#"{"default":[{"type":"sigstoreSigned","fulcio":{}}]}"#,
        r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","signedIdentity":{"type":"any"}}]}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"quay.io":[]}}}"#,
    ] {
        let error = policy(text).unwrap_err().to_string();
        assert!(
            error.contains("/etc/containers/policy.json"),
            "{text}: {error}"
        );
    }
}

mod fuzz {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const WHOLE: &str = r#"{"default":[{"type":"reject"}],"transports":{"docker":{
        "quay.io/a":[{"type":"insecureAcceptAnything"}],"*.example.com":[{"type":"reject"}],
        "b.io/c":[{"type":"signedBy","keyType":"GPGKeys","keyData":"aGVsbG8=","signedIdentity":{"type":"matchRepoDigestOrExact"}}],
        "d.io/e":[{"type":"sigstoreSigned","keyData":"aGVsbG8=","signedIdentity":{"type":"remapIdentity","prefix":"d.io","signedPrefix":"f.io"}}]},
        "oci":{"/images":[{"type":"insecureAcceptAnything"}]}}}"#;

    proptest! {
        #[test]
        fn damaged_policies_allow_no_more(damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6)) {
            let mut text = WHOLE.as_bytes().to_vec();
            for (index, value) in damage {
                let at = index.index(text.len());
                text[at] = value;
            }
            if let Ok(policy) = policy(&String::from_utf8_lossy(&text)) {
                // The default is not so easily made another one.
                prop_assert!(policy.check(Transport::Docker, "elsewhere.org/x:1").is_err());
            }
        }
    }
}
