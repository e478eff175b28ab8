use super::*;

fn parsed(text: &str) -> String {
    ImageReference::parse_docker_style(text)
        .unwrap()
        .with_default_tag()
        .to_string()
}

#[test]
fn normalizes_like_docker() {
    for (given, wanted) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("user/app:1", "docker.io/user/app:1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        (
            "index.docker.io/busybox",
            "docker.io/library/busybox:latest",
        ),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b/c:v1.2_3", "localhost:5000/a/b/c:v1.2_3"),
        ("quay.io/x/y__z--q.r", "quay.io/x/y__z--q.r:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
    ] {
        assert_eq!(parsed(given), wanted);
    }
}

#[test]
fn digests_keep_no_default_tag() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let reference = ImageReference::parse(&format!("quay.io/a/b:tag@{digest}")).unwrap();
    assert_eq!(reference.tag(), Some("tag"));
    assert_eq!(
        reference.clone().without_tag_if_digested().to_string(),
        format!("quay.io/a/b@{digest}")
    );
    assert_eq!(reference.digest().unwrap().as_str(), digest);
}

#[test]
fn short_names_are_told_apart() {
    let short = ImageReference::parse_or_short("library/busybox:1")
        .unwrap()
        .unwrap_err();
    assert_eq!(
        short.qualify("quay.io/mirror").unwrap().to_string(),
        "quay.io/mirror/library/busybox:1"
    );
    assert!(ImageReference::parse("busybox").is_err());
}

#[test]
fn rejects_malformed_texts() {
    let id = "a".repeat(64);
    let long = format!("quay.io/{}", "a".repeat(300));
    for bad in [
        "",
        ":tag",
        "UPPER",
        "a//b",
        "quay.io/",
        "quay.io/a:",
        "quay.io/a:-x",
        "quay.io/a@sha256:12",
        "quay.io/../etc",
        "quay.io/.a",
        "quay.io/a._b",
        "quay.io:port/a",
        "quay.io:99999/a",
        "a b",
        "quay.io/a\n",
        "-x.io/a",
        &id,
        &long,
    ] {
        assert!(ImageReference::parse_docker_style(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn mirrors_keep_tag_and_digest() {
    let reference = ImageReference::parse("quay.io/a/b:t").unwrap();
    assert_eq!(
        reference
            .with_repository("localhost:5000/m/b")
            .unwrap()
            .to_string(),
        "localhost:5000/m/b:t"
    );
}
