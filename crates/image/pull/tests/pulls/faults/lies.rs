//! What a server can say wrongly at each step of a pull. Every case ends in an image or in an error that says why, after a
//! number of requests that a person could count.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::fixture::{Fixture, is_root};
use crate::image::{INDEX, Image, MANIFEST, digest, noise};
use crate::server::{Handler, Reply, Request, Server};

/// More requests than this are a loop.
const MANY: usize = 40;

/// A name, what the server does, and what the error says; nothing for a pull that works.
pub(super) type Case = (&'static str, Box<Handler>, &'static str);

pub(super) fn case(
    name: &'static str,
    handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    words: &'static str,
) -> Case {
    (name, Box::new(handler), words)
}

pub(super) async fn all(cases: Vec<Case>) {
    if !is_root() {
        return;
    }
    let mut running = tokio::task::JoinSet::new();
    for (name, handler, words) in cases {
        running.spawn(async move {
            let server = Server::start(handler).await;
            let host = server.address.to_string();
            let fixture = Fixture::insecure(&host);
            let reference = format!("{host}/app:one");
            if words.is_empty() {
                let pulled = fixture.pull(&reference).await;
                assert!(pulled.is_ok(), "{name}: {pulled:?}");
            } else {
                let text = fixture.failure(&reference).await;
                assert!(text.contains(words), "{name}: {text}");
                assert!(text.len() < 2000, "{name}: {text}");
            }
            let count = server.requests().len();
            assert!(count < MANY, "{name}: {count} requests");
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

/// A good server, but for requests with `part` in their path.
pub(super) fn but(
    part: impl Into<String>,
    reply: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let (image, part) = (Image::simple(), part.into());
    move |request| {
        let good = image.answer(request);
        match request.path.contains(&part) {
            true => reply(request, good),
            false => good,
        }
    }
}

pub(super) fn layer() -> String {
    digest(&Image::simple().layers[0])
}

/// The first time cut in the middle, then as told.
fn resumed(
    reply: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    but(layer(), move |request, good| match request.range_start() {
        None => good.cut_after(100_000),
        Some(_) => reply(request, good),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn about_time() {
    let second = Duration::from_millis(500);
    all(vec![
        case(
            "a blob that drips",
            but(layer(), move |_, good| good.drip(100, second)),
            "trickle",
        ),
        case(
            "a manifest that drips",
            but("/manifests/", move |_, good| good.drip(100, second)),
            "trickle",
        ),
        case(
            "a head that drips",
            but("/manifests/", move |_, good| good.drip(5, second)),
            "no response",
        ),
        case(
            "a slow line",
            but(layer(), |_, good| {
                good.drip(64 << 10, Duration::from_millis(100))
            }),
            "",
        ),
        case(
            "an error that drips",
            move |_: &Request| Reply::new(404, "x".repeat(1000)).drip(150, second),
            "not found",
        ),
        case(
            "come back on a date",
            but("/manifests/", |_, _| {
                Reply::new(503, "").header("retry-after", "Fri, 31 Dec 2999 23:59:59 GMT")
            }),
            "503",
        ),
        case(
            "come back yesterday",
            but("/manifests/", |_, _| {
                Reply::new(429, "").header("retry-after", "-86400")
            }),
            "too many requests",
        ),
        case(
            "come back in an age",
            but(layer(), |_, _| {
                Reply::new(429, "").header("retry-after", "99999999999999999999")
            }),
            "too many requests",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn about_status() {
    let mut cases = Vec::new();
    for status in [
        400, 402, 405, 410, 418, 451, 500, 501, 502, 503, 504, 599, 204, 203, 304, 300,
    ] {
        cases.push(case(
            "a status",
            but(layer(), move |_, _| Reply::new(status, "")),
            "fetch layer",
        ));
        cases.push(case(
            "a status",
            but("/manifests/", move |_, _| Reply::new(status, "")),
            "fetch manifest",
        ));
    }
    for status in [408, 429, 500, 502, 503, 504] {
        let asked = AtomicUsize::new(0);
        let twice = but("", move |_, good| {
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Reply::new(status, ""),
                _ => good,
            }
        });
        cases.push(case("a status that passes", twice, ""));
    }
    all(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn about_ranges() {
    let range =
        |text: &'static str| move |_: &Request, good: Reply| good.header("content-range", text);
    let unasked = |text: &'static str| {
        but(layer(), move |_, good| {
            Reply::new(206, good.body()).header("content-range", text)
        })
    };
    all(vec![
        case(
            "a part that nobody asked for",
            unasked("bytes 100-200/300"),
            "Content-Range",
        ),
        case(
            "a part without its place",
            but(layer(), |_, good| Reply::new(206, good.body())),
            "Content-Range",
        ),
        case("a part of nothing", unasked("bytes */300"), "Content-Range"),
        case("the whole as a part", unasked("bytes 0-1/*"), ""),
        case(
            "a later part",
            resumed(|_, good| {
                Reply::new(206, good.body()).header("content-range", "bytes 100001-200000/300000")
            }),
            "Content-Range",
        ),
        case("two places", resumed(range("bytes 5-6/7")), ""),
        case(
            "no place",
            resumed(|_, good| Reply::new(206, good.body())),
            "Content-Range",
        ),
        case(
            "a negative place",
            resumed(|_, good| Reply::new(206, good.body()).header("content-range", "bytes -5-6/7")),
            "Content-Range",
        ),
        case(
            "a place beyond all",
            resumed(|_, good| {
                Reply::new(206, good.body())
                    .header("content-range", "bytes 99999999999999999999999-9/9")
            }),
            "Content-Range",
        ),
        case(
            "an earlier part than asked for",
            resumed(|_, _| {
                let blob = Image::simple().layers[0].clone();
                Reply::new(206, &blob[50_000..]).header("content-range", "bytes 50000-x/y")
            }),
            "",
        ),
        case(
            "a shorter part",
            resumed(|_, _| {
                Reply::new(206, "short").header("content-range", "bytes 100000-100004/9")
            }),
            "are due",
        ),
        case(
            "ranges that cannot be had",
            resumed(|_, _| Reply::new(416, "")),
            "416",
        ),
        case(
            "another blob when asked again",
            resumed(|_, good| {
                let other = noise(good.body().len());
                Reply::new(206, other).header("content-range", "bytes 100000-x/y")
            }),
            "layer `sha256",
        ),
        case(
            "all again, and shorter",
            resumed(|_, _| Reply::new(200, "short")),
            "are due",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn about_length() {
    all(vec![
        case(
            "a longer length",
            but(layer(), |_, good| {
                let length = good.body().len();
                good.of_length(length + 1)
            }),
            "are due",
        ),
        case(
            "a length of all",
            but(layer(), |_, good| good.of_length(usize::MAX >> 1)),
            "are due",
        ),
        case(
            "a length of none",
            but(layer(), |_, good| good.of_length(0)),
            "are due",
        ),
        case("no length", but("", |_, good| good.without_length()), ""),
        case(
            "no length, and more",
            but(layer(), |_, good| {
                Reply::new(200, [good.body(), &[0; 100]].concat()).without_length()
            }),
            "larger than",
        ),
        case(
            "no length, and less",
            but(layer(), |_, good| {
                Reply::new(200, &good.body()[..1000]).without_length()
            }),
            "broke after",
        ),
        case(
            "a manifest without an end",
            but("/manifests/", |_, _| {
                Reply::new(200, vec![b' '; 5 << 20]).without_length()
            }),
            "larger than",
        ),
        case(
            "a manifest that is cut",
            but("/manifests/", |_, good| good.cut_after(10)),
            "broke after",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn about_http() {
    let header = |text: String| {
        but("/manifests/", move |_, good| {
            good.header("x-padding", text.clone())
        })
    };
    let flood = || {
        but("/manifests/", |_, good| {
            (0..5000).fold(good, |reply, _| reply.header("x", "y"))
        })
    };
    all(vec![
        case(
            "a header of a megabyte",
            header("h".repeat(1 << 20)),
            "fetch manifest",
        ),
        case(
            "a header of a few kilobytes",
            header("h".repeat(8 << 10)),
            "",
        ),
        case("thousands of headers", flood(), "fetch manifest"),
        case(
            "no HTTP",
            |_: &Request| Reply::raw("220 mail.example.com ESMTP\r\n"),
            "fetch manifest",
        ),
        case("nothing", |_: &Request| Reply::raw(""), "fetch manifest"),
        case(
            "half a head",
            |_: &Request| Reply::raw("HTTP/1.1 200 OK\r\ncontent-le"),
            "fetch manifest",
        ),
        case(
            "a status of text",
            |_: &Request| Reply::raw("HTTP/1.1 abc OK\r\n\r\n"),
            "fetch manifest",
        ),
        case(
            "another HTTP",
            |_: &Request| Reply::raw("HTTP/9.9 200 OK\r\n\r\n"),
            "fetch manifest",
        ),
        case(
            "patience, please",
            |_: &Request| Reply::raw("HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000)),
            "fetch manifest",
        ),
        case(
            "chunks of no size",
            |_: &Request| Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            "fetch manifest",
        ),
        case(
            "chunks larger than all",
            |_: &Request| {
                Reply::raw(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
                )
            },
            "fetch manifest",
        ),
        case(
            "two lengths",
            |_: &Request| {
                Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x")
            },
            "fetch manifest",
        ),
        case(
            "another digest in the head",
            but("/manifests/", |_, good| {
                good.header("docker-content-digest", digest(b"other"))
            }),
            "",
        ),
        case(
            "packed again",
            but(layer(), |_, good| good.header("content-encoding", "br")),
            "",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn about_manifests() {
    let manifest = |text: String| {
        but("/manifests/one", move |_, _| {
            Reply::new(200, text.clone()).header("content-type", MANIFEST)
        })
    };
    let index = |text: String| {
        but("/manifests/", move |_, _| {
            Reply::new(200, text.clone()).header("content-type", INDEX)
        })
    };
    let image = Image::simple();
    let good = String::from_utf8(image.manifest.clone()).unwrap();
    let size = format!("\"size\":{}", image.layers[0].len());
    let zero = format!(
        r#"{{"mediaType":"x","digest":"sha256:{}","size":1}}"#,
        "0".repeat(64)
    );
    let many = vec![zero.as_str(); 30_000].join(",");
    let config = format!(
        r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}}"#,
        digest(&image.config),
        image.config.len()
    );
    all(vec![
        case("a layer larger than all", manifest(good.replace(&size, "\"size\":9223372036854775807")), "are due"),
        case("a layer of a negative size", manifest(good.replace(&size, "\"size\":-1")), "manifest"),
        case("a layer of half a byte", manifest(good.replace(&size, "\"size\":0.5")), "manifest"),
        case("a layer without a size", manifest(good.replace(&size, "\"x\":1")), "manifest"),
        case("a layer of one byte", manifest(good.replace(&size, "\"size\":1")), "are due"),
        case("thousands of layers", manifest(format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}",{config},"layers":[{many}]}}"#)), "layers"),
        case("deep JSON", manifest("[".repeat(1 << 20)), "manifest"),
        case("a config of an exabyte", manifest(good.replace(&format!("\"size\":{}", image.config.len()), "\"size\":1152921504606846976")), "config"),
        case("a list of itself", index(format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{INDEX}","digest":"sha256:{}","size":5}}]}}"#, "1".repeat(64))), "manifest"),
        case("thousands of platforms", index(format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{many}]}}"#)), "manifest"),
        case("no JSON", manifest("\u{0}\u{1}\u{2}".to_owned()), "manifest"),
        case("JSON of another kind", manifest("[1,2,3]".to_owned()), "manifest"),
        case("the same key twice", manifest(good.replacen('{', "{\"layers\":[],", 1)), "manifest"),
    ])
    .await;
}
