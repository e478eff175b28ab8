use super::*;

fn put(layout: &Layout, bytes: &[u8]) -> Digest {
    let digest =
        crioxide_registry::ContentHasher::digest_of(crioxide_names::Algorithm::Sha256, bytes);
    std::fs::write(layout.blob(&digest), bytes).unwrap();
    digest
}

#[test]
fn artifacts_are_found_by_name_digest_and_id_and_take_their_blobs_along() {
    let root = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(root.path(), &[]);
    assert_eq!(artifacts.list().unwrap(), []);
    assert!(
        !root.path().join("artifacts").exists(),
        "asking makes nothing"
    );
    let layout = &artifacts.shared.layout;
    layout.prepare().unwrap();
    let shared = put(layout, b"in both");
    let add = |name: &str, text: &[u8]| {
        let own = put(layout, text);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{shared}","size":7}},"layers":[{{"digest":"{own}","size":{}}}],"annotations":{{"a":"b"}}}}"#,
            text.len()
        );
        let digest = put(layout, manifest.as_bytes());
        let name = ImageReference::parse(name).unwrap();
        artifacts
            .record(&name, &digest, "x", manifest.len() as u64)
            .unwrap();
        (name, digest, own)
    };
    let (one, one_digest, one_blob) = add("quay.io/a/one:1", b"first");
    let (two, two_digest, two_blob) = add("quay.io/a/two:1", b"second one");
    let find = |text: &str, candidates: &[ImageReference]| {
        let found = artifacts.status(text, candidates).unwrap();
        found.map(|found| found.digest)
    };
    assert_eq!(
        find("one", std::slice::from_ref(&one)),
        Some(one_digest.clone())
    );
    assert_eq!(find(two_digest.as_str(), &[]), Some(two_digest.clone()));
    assert_eq!(find(&two_digest.hex()[..12], &[]), Some(two_digest.clone()));
    let by_digest = one
        .with_digest(one_digest.clone())
        .without_tag_if_digested();
    assert_eq!(find("x", &[by_digest]), Some(one_digest.clone()));
    assert_eq!(find("ab", &[]), None);
    let info = artifacts.status("two", &[two]).unwrap().unwrap();
    assert_eq!((info.size, info.annotations["a"].as_str()), (10, "b"));

    assert!(artifacts.remove("one", std::slice::from_ref(&one)).unwrap());
    assert!(!artifacts.remove("one", &[one]).unwrap());
    assert!(!layout.blob(&one_blob).exists() && !layout.blob(&one_digest).exists());
    assert!(layout.blob(&shared).exists() && layout.blob(&two_blob).exists());
    assert!(artifacts.remove(two_digest.hex(), &[]).unwrap());
    assert!(!layout.blob(&shared).exists());
    assert_eq!(artifacts.list().unwrap(), []);
}
