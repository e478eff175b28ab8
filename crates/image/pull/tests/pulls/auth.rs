//! Tokens, passwords, and where they must not go.

use crioxide_pull::PullRequest;
use crioxide_registry::Credentials;

use crate::fixture::{Fixture, is_root};
use crate::image::Image;
use crate::server::{Reply, Request, Server};

/// base64 of `me:hunter2`.
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn challenge(host: &str) -> Reply {
    let value = format!(
        "Bearer realm=\"http://{host}/token?fixed=1\",service=\"reg\",scope=\"repository:app:pull\""
    );
    Reply::new(401, "").header("www-authenticate", value)
}

/// Wants the token `sesame`, which it gives to `me` with the password.
fn guarded(image: &Image, request: &Request) -> Reply {
    if request.path.starts_with("/token") {
        return match request.header("authorization") {
            Some(BASIC) => Reply::new(200, r#"{"token":"sesame","expires_in":300}"#),
            _ => Reply::new(401, r#"{"details":"who are you"}"#),
        };
    }
    match request.header("authorization") {
        Some("Bearer sesame") => image.answer(request),
        _ => challenge(request.header("host").unwrap_or_default()),
    }
}

fn request(name: String) -> PullRequest {
    PullRequest {
        credentials: Some(Credentials::password("me", "hunter2")),
        ..PullRequest::new(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_and_used() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let server = Server::start(move |request| guarded(&image, request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    fixture
        .puller
        .pull(request(format!("{host}/app:one")))
        .await
        .unwrap();
    let asked: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|r| r.path.starts_with("/token"))
        .collect();
    assert_eq!(asked.len(), 1);
    let query = &asked[0].path;
    for part in [
        "fixed=1",
        "account=me",
        "service=reg",
        "scope=repository%3Aapp%3Apull",
    ] {
        assert!(query.contains(part), "{query}");
    }
    let passwords = server
        .requests()
        .into_iter()
        .filter(|r| r.header("authorization") == Some(BASIC))
        .count();
    assert_eq!(passwords, 1, "the password goes to the token server only");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_or_no_credentials_are_unauthorized() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let server = Server::start(move |request| guarded(&image, request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let text = fixture.failure(&format!("{host}/app:one")).await;
    assert!(text.contains("unauthorized: who are you"), "{text}");
    let mut wrong = request(format!("{host}/app:one"));
    wrong.credentials = Some(Credentials::password("me", "letmein"));
    let error = fixture.puller.pull(wrong).await.unwrap_err();
    let detail = error.fetch_error().unwrap().to_string();
    assert!(
        detail.contains("invalid username/password: unauthorized"),
        "{detail}"
    );
    assert!(!format!("{error:?}").contains("letmein"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_file_gives_the_password() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let server = Server::start(move |request| match request.header("authorization") {
        Some(BASIC) => image.answer(request),
        _ => Reply::new(401, "").header("www-authenticate", "Basic realm=\"x\""),
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let entry = BASIC.trim_start_matches("Basic ");
    std::fs::write(
        fixture.path("auth.json"),
        format!(r#"{{"auths":{{"{host}/app":{{"auth":"{entry}"}}}}}}"#),
    )
    .unwrap();
    fixture.pull(&format!("{host}/app:one")).await.unwrap();
    let text = fixture
        .pull(&format!("{host}/application:one"))
        .await
        .unwrap_err();
    assert!(
        text.fetch_error()
            .unwrap()
            .to_string()
            .contains("unauthorized")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_loses_the_token() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let content = image.clone();
    let elsewhere = Server::start(move |request| content.answer(request)).await;
    let target = elsewhere.address;
    let server = Server::start(move |request| match guarded(&image, request) {
        _ if request.path.contains("/blobs/")
            && request.header("authorization") == Some("Bearer sesame") =>
        {
            Reply::new(307, "").header("location", format!("http://{target}{}", request.path))
        }
        reply => reply,
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    fixture
        .puller
        .pull(request(format!("{host}/app:one")))
        .await
        .unwrap();
    let redirected = elsewhere.requests();
    assert_eq!(redirected.len(), 3, "config and two layers");
    assert!(
        redirected
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_not_shown_the_credentials_of_the_request() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let content = image.clone();
    let mirror = Server::start(move |request| guarded(&content, request)).await;
    let server = Server::start(move |request| guarded(&image, request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::new(&format!(
        "[[registry]]\nlocation = \"{host}\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        mirror.address
    ));
    let pulled = fixture
        .puller
        .pull(request(format!("{host}/app:one")))
        .await
        .unwrap();
    assert_eq!(pulled.endpoint, format!("{host}/app:one"));
    assert!(!mirror.requests().is_empty());
    assert!(
        mirror
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}
