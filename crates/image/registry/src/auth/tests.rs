use std::path::PathBuf;

use super::challenge::Challenge;
use super::*;

fn choose(header: &str) -> Option<Challenge> {
    Challenge::choose([header].into_iter())
}

#[test]
fn challenges_are_parsed() {
    let bearer = |service: Option<&str>, scope: Option<&str>| {
        Some(Challenge::Bearer {
            realm: "https://auth.example.com/token".into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    };
    let full = r#"Bearer realm="https://auth.example.com/token",service="a \"b\", c",scope="repository:x:pull,push""#;
    assert_eq!(
        choose(full),
        bearer(Some("a \"b\", c"), Some("repository:x:pull,push"))
    );
    let tokens = "bearer realm=https://auth.example.com/token , service = x";
    assert_eq!(choose(tokens), bearer(Some("x"), None));
    let both = r#"Basic realm="r", Bearer realm="https://auth.example.com/token""#;
    assert_eq!(choose(both), bearer(None, None));
    assert_eq!(
        choose(r#"Negotiate, BASIC realm="x""#),
        Some(Challenge::Basic)
    );
    for other in [
        "",
        ",",
        "=",
        "\"",
        "Negotiate",
        "Bearer service=x",
        "Digest realm=\"",
        "Bearer ===,,, a",
    ] {
        assert_eq!(choose(other), None, "{other}");
    }
}

#[test]
fn secrets_do_not_print() {
    let credentials = Credentials::password("me", "hunter2");
    assert!(!format!("{credentials:?} {}", Secret::new("hunter2")).contains("hunter2"));
}

#[test]
fn encoded_credentials_lose_padding_nuls() {
    let encoded = STANDARD.encode("me:pass:word\0\0");
    assert_eq!(
        Credentials::decode(&encoded),
        Some(Credentials::password("me", "pass:word"))
    );
    for bad in [
        "",
        "!",
        &STANDARD.encode("nocolon"),
        &STANDARD.encode(":password"),
    ] {
        assert_eq!(Credentials::decode(bad), None, "{bad}");
    }
}

fn auth_file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_longest_key_wins_and_the_first_file_that_has_one() {
    let directory = tempfile::tempdir().unwrap();
    let entry = |user: &str| format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{user}:x")));
    let first = auth_file(
        &directory,
        "first.json",
        &format!(
            r#"{{"auths":{{"quay.io/team/app":{},"quay.io/team":{},"quay.io":{},"localhost:5000":{},
                "https://index.docker.io/v1/":{}}}}}"#,
            entry("app"),
            entry("team"),
            entry("quay"),
            entry("local"),
            entry("hub"),
        ),
    );
    let old = auth_file(
        &directory,
        ".dockercfg",
        &format!(r#"{{"old.example.com":{}}}"#, entry("old")),
    );
    let files = AuthFiles::new(vec![directory.path().join("missing.json"), first, old]);
    let user = |host: &str, repository: &str| match files.lookup(host, repository).unwrap() {
        Some(Credentials::Password { username, .. }) => username,
        other => format!("{other:?}"),
    };
    assert_eq!(user("quay.io", "team/app"), "app");
    assert_eq!(user("quay.io", "team/application"), "team");
    assert_eq!(user("quay.io", "other"), "quay");
    assert_eq!(user("localhost:5000", "x"), "local");
    assert_eq!(user("docker.io", "library/busybox"), "hub");
    assert_eq!(user("old.example.com", "x"), "old");
    assert_eq!(user("localhost:5001", "x"), "None");
}

#[test]
fn flaws_name_the_file_and_not_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("cut.json", r#"{"auths":{"quay.io":{"auth":"aHVudGVyMg"#),
        (
            "entry.json",
            r#"{"auths":{"quay.io":{"auth":"aHVudGVyMg=="}}}"#,
        ),
    ] {
        let path = auth_file(&directory, name, text);
        let error = AuthFiles::new(vec![path])
            .lookup("quay.io", "x")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(name) && !error.contains("aHVudGVyMg"),
            "{error}"
        );
    }
}
