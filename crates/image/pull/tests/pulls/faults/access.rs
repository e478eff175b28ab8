//! Servers that lie about tokens and about where things are, and credentials, which stay where they belong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crioxide_pull::PullRequest;
use crioxide_registry::Credentials;

use super::lies::{all, but, case, layer};
use crate::fixture::{Fixture, is_root};
use crate::image::Image;
use crate::server::{Reply, Request, Server};

fn challenge(realm: &str) -> Reply {
    let value = format!("Bearer realm=\"{realm}\",service=\"reg\"");
    Reply::new(401, "").header("www-authenticate", value)
}

/// Wants a token, which `server` gives.
fn token(
    server: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let image = Image::simple();
    move |request| {
        let host = request.header("host").unwrap_or_default();
        if request.path.starts_with("/token") {
            server(request)
        } else if request.header("authorization") == Some("Bearer sesame") {
            image.answer(request)
        } else {
            challenge(&format!("http://{host}/token"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn about_tokens() {
    let answer = |text: &'static str| token(move |_| Reply::new(200, text));
    let own = |request: &Request| {
        format!(
            "http://{}/token",
            request.header("host").unwrap_or_default()
        )
    };
    let realm = |realm: &'static str| move |_: &Request| challenge(realm);
    all(vec![
        case("a token", answer(r#"{"token":"sesame"}"#), ""),
        case(
            "a token that has expired",
            answer(r#"{"token":"sesame","expires_in":0}"#),
            "",
        ),
        case(
            "a token for ever",
            answer(r#"{"token":"sesame","expires_in":18446744073709551615}"#),
            "",
        ),
        case(
            "a token that is never good",
            answer(r#"{"token":"wrong"}"#),
            "unauthorized",
        ),
        case("no token", answer("{}"), "empty token"),
        case("an empty token", answer(r#"{"token":""}"#), "empty token"),
        case(
            "a token of two lines",
            answer("{\"token\":\"a\\r\\nx: y\"}"),
            "no header may have",
        ),
        case(
            "a token that is a number",
            answer(r#"{"token":5}"#),
            "no token",
        ),
        case("no JSON", answer("<html>"), "no token"),
        case(
            "a life that is text",
            answer(r#"{"token":"sesame","expires_in":"soon"}"#),
            "no token",
        ),
        case(
            "a token of megabytes",
            token(|_| Reply::new(200, "x".repeat(2 << 20))),
            "larger than",
        ),
        case(
            "a token server that asks for a token",
            token(move |request| challenge(&own(request))),
            "unauthorized",
        ),
        case(
            "a token server that sends elsewhere for ever",
            token(move |request| Reply::new(307, "").header("location", own(request))),
            "more than 10",
        ),
        case(
            "a token server that is silent",
            token(|_| Reply::new(200, "").hang_before_head()),
            "no response",
        ),
        case(
            "a token server that drips",
            token(|_| Reply::new(200, " ".repeat(9000)).drip(100, Duration::from_millis(500))),
            "trickle",
        ),
        case(
            "a token server that is broken",
            token(|_| Reply::new(500, "")),
            "500",
        ),
        case(
            "a token server that is nowhere",
            realm("http://127.0.0.1:1/token"),
            "refused",
        ),
        case("a realm that is no address", realm("over there"), "no URL"),
        case(
            "a realm that is a file",
            realm("file:///etc/passwd"),
            "token server",
        ),
        case(
            "no realm",
            |_: &Request| Reply::new(401, "").header("www-authenticate", "Bearer service=\"x\""),
            "unauthorized",
        ),
        case(
            "a challenge of nonsense",
            |_: &Request| Reply::new(401, "").header("www-authenticate", "\",=,\"\"=Bearer\""),
            "unauthorized",
        ),
        case(
            "a long challenge",
            |_: &Request| {
                Reply::new(401, "").header(
                    "www-authenticate",
                    format!("Bearer {}", "a=b,".repeat(10_000)),
                )
            },
            "unauthorized",
        ),
        case(
            "no challenge",
            |_: &Request| Reply::new(401, ""),
            "unauthorized",
        ),
        case(
            "passwords are wanted",
            |_: &Request| Reply::new(401, "").header("www-authenticate", "Basic realm=\"x\""),
            "unauthorized",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn about_redirects() {
    let to = |location: &'static str| {
        but(layer(), move |_, _| {
            Reply::new(307, "").header("location", location)
        })
    };
    let longer = AtomicUsize::new(0);
    all(vec![
        case(
            "nowhere",
            but(layer(), |_, _| Reply::new(302, "")),
            "no usable Location",
        ),
        case("to a file", to("file:///etc/passwd"), "not allowed"),
        case(
            "to an unknown scheme",
            to("gopher://example.com/"),
            "not allowed",
        ),
        case("to no address", to("http://"), "Location"),
        case("to odd bytes", to("/\u{7f}\u{1}"), "invalid HTTP header"),
        case("to nobody", to("http://127.0.0.1:1/x"), "refused"),
        case(
            "to itself",
            but("/manifests/", |request, _| {
                Reply::new(308, "").header("location", request.path.clone())
            }),
            "more than 10",
        ),
        case(
            "ever further",
            but("/", move |_, _| {
                let next = longer.fetch_add(1, Ordering::Relaxed);
                Reply::new(301, "").header("location", format!("/{next}"))
            }),
            "more than 10",
        ),
    ])
    .await;
}

/// Every way that leads to another host, and back.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_where_they_belong() {
    if !is_root() {
        return;
    }
    let own = |request: &Request| request.header("host").unwrap_or_default().to_owned();
    let away = Server::start(move |request| {
        // Back to where it came from, under another name.
        let back = request.path.rsplit("from=").next().unwrap_or_default();
        Reply::new(307, "").header("location", format!("http://{back}/back"))
    })
    .await;
    let elsewhere = away.address;
    for part in ["/token", "/manifests/", "/blobs/"] {
        let image = Image::simple();
        let server = Server::start(move |request| {
            let host = own(request);
            if request.path.contains(part) && request.header("authorization").is_some() {
                let location = format!("http://{elsewhere}/?from={host}");
                return Reply::new(307, "").header("location", location);
            }
            if request.path.starts_with("/token") {
                return Reply::new(200, r#"{"token":"sesame"}"#);
            }
            match request.header("authorization") {
                Some(_) => image.answer(request),
                None => challenge(&format!("http://{host}/token")),
            }
        })
        .await;
        let host = server.address.to_string();
        let fixture = Fixture::insecure(&host);
        let request = PullRequest {
            credentials: Some(Credentials::password("me", "hunter2")),
            ..PullRequest::new(format!("{host}/app:one"))
        };
        let outcome = fixture.puller.pull(request).await;
        assert!(outcome.is_err(), "{part}");
        let back = server.requests();
        let mut back = back
            .iter()
            .filter(|request| request.path == "/back")
            .peekable();
        assert!(back.peek().is_some(), "{part}");
        assert!(
            back.all(|request| request.header("authorization").is_none()),
            "{part}"
        );
    }
    let seen = away.requests();
    assert!(seen.len() >= 3);
    assert!(
        seen.iter()
            .all(|request| request.header("authorization").is_none())
    );
}
