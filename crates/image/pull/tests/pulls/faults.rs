//! Registries that lie, break off, hang or refuse. Nothing is ever left behind.

mod access;
mod lies;

use std::sync::atomic::{AtomicUsize, Ordering};

use crioxide_registry::FetchError;

use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, digest, noise, pack, tar};
use crate::server::{Reply, Request, Server};

/// Pulls `app:one` from a server with this behaviour and gives the message of the failure.
async fn failure(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> String {
    let server = Server::start(handler).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let text = fixture.failure(&format!("{host}/app:one")).await;
    assert!(text.contains(&format!("{host}/app:one")), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    if !is_root() {
        return;
    }
    let text = failure(|_| {
        Reply::new(
            404,
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such\nthing"}]}"#,
        )
    })
    .await;
    assert!(
        text.contains("not found: name_unknown: no suchthing"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_registry_unavailable() {
    if !is_root() {
        return;
    }
    let host = {
        let server = Server::start(|_| Reply::new(404, "")).await;
        server.address.to_string()
    };
    tokio::task::yield_now().await;
    let fixture = Fixture::insecure(&host);
    let text = fixture.failure(&format!("{host}/app:one")).await;
    assert!(text.starts_with("RegistryUnavailable: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_and_broken_servers_are_asked_again() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429, "").header("retry-after", "0"),
        1 => Reply::new(503, ""),
        _ => image.answer(request),
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    fixture.pull(&format!("{host}/app:one")).await.unwrap();
    assert_eq!(server.count("/manifests/"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_ends() {
    if !is_root() {
        return;
    }
    let text = failure(|_| Reply::new(429, "").header("retry-after", "9999999")).await;
    assert!(text.contains("too many requests"), "{text}");
    let text = failure(|_| {
        Reply::new(
            500,
            r#"{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}"#,
        )
    })
    .await;
    assert!(
        text.contains("answered 500: unknown: disk on fire"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_blob_is_resumed_where_it_broke() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let big = digest(&image.layers[0]);
    let cut = big.clone();
    let server = Server::start(move |request| {
        let reply = image.answer(request);
        match request.path.contains(&cut) && request.range_start().is_none() {
            true => reply.cut_after(100_000),
            false => reply,
        }
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    fixture.pull(&format!("{host}/app:one")).await.unwrap();
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .filter(|r| r.path.contains(&big))
        .map(Request::range_start)
        .collect();
    assert_eq!(ranges, [None, Some(100_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_sends_all_again() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let (big, asked) = (digest(&image.layers[0]), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        if !request.path.contains(&big) {
            return image.answer(request);
        }
        let whole = Reply::new(200, image.layers[0].clone());
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => whole.cut_after(100_000),
            _ => whole,
        }
    })
    .await;
    let host = server.address.to_string();
    Fixture::insecure(&host)
        .pull(&format!("{host}/app:one"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_always_breaks_fails() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let big = digest(&image.layers[0]);
    let text = failure(move |request| {
        let reply = image.answer(request);
        if request.path.contains(&big) {
            reply.cut_after(10)
        } else {
            reply
        }
    })
    .await;
    assert!(text.contains("broke after"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let big = digest(&image.layers[0]);
    let mut wrong = image.layers[0].clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    let (served, name) = (image.clone(), big.clone());
    let text = failure(move |request| match request.path.contains(&name) {
        true => Reply::new(200, wrong.clone()),
        false => served.answer(request),
    })
    .await;
    assert!(
        text.contains(&big) && (text.contains("has digest") || text.contains("store layer")),
        "{text}"
    );

    let config = digest(&image.config);
    let served = image.clone();
    let text = failure(move |request| match request.path.contains(&config) {
        true => Reply::new(200, vec![b' '; served.config.len()]),
        false => served.answer(request),
    })
    .await;
    assert!(
        text.contains("image config") && text.contains("has digest"),
        "{text}"
    );

    let text = failure(move |request| match request.path.contains(&big) {
        true => Reply::new(200, "short"),
        false => image.answer(request),
    })
    .await;
    assert!(text.contains("5 bytes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tar_that_is_not_what_the_config_says_is_refused() {
    if !is_root() {
        return;
    }
    let (real, promised) = (tar(&[("etc/a", b"1")]), tar(&[("etc/b", b"1")]));
    let honest = Image::new(&[(promised, Packing::Gzip)], "");
    let lying = Image::assemble(honest.config, vec![pack(&real, Packing::Gzip)], vec![real]);
    let text = failure(move |request| lying.answer(request)).await;
    assert!(text.contains("the image's config says"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_archive_is_refused_and_the_other_layers_go_too() {
    if !is_root() {
        return;
    }
    let good = tar(&[("etc/a", b"1")]);
    let junk = noise(5000);
    let mut corrupt = pack(&tar(&[("etc/c", &noise(50_000))]), Packing::Gzip);
    corrupt.truncate(20_000);
    for bad in [junk, corrupt] {
        let config = Image::new(
            &[(good.clone(), Packing::Gzip), (bad.clone(), Packing::Plain)],
            "",
        )
        .config;
        let image = Image::assemble(config, vec![pack(&good, Packing::Gzip), bad], Vec::new());
        let text = failure(move |request| image.answer(request)).await;
        assert!(text.contains("store layer"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_manifests_are_refused() {
    if !is_root() {
        return;
    }
    let text = failure(|_| Reply::new(200, vec![b' '; (4 << 20) + 1])).await;
    assert!(text.contains("larger than 4194304 bytes"), "{text}");
    let text = failure(|_| Reply::new(200, "{")).await;
    assert!(text.contains("parse manifest"), "{text}");
    let traversal = r#"{"schemaVersion":2,"config":{"digest":"sha256:../../../etc/passwd","size":1},"layers":[]}"#;
    let text = failure(move |_| Reply::new(200, traversal)).await;
    assert!(text.contains("is not a digest"), "{text}");
    let image = Image::simple();
    let server = Server::start(move |request| {
        if request.path.contains("/manifests/") {
            Reply::new(200, "{}")
        } else {
            image.answer(request)
        }
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let text = fixture
        .failure(&format!("{host}/app@{}", digest(b"something else")))
        .await;
    assert!(text.contains("content has digest"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_is_given_up() {
    if !is_root() {
        return;
    }
    let text = failure(|_| Reply::new(200, "").hang_before_head()).await;
    assert!(
        text.contains("no response") && text.contains("within 2s"),
        "{text}"
    );
    let image = Image::simple();
    let big = digest(&image.layers[0]);
    let text = failure(move |request| {
        let reply = image.answer(request);
        if request.path.contains(&big) {
            reply.hang_after_head()
        } else {
            reply
        }
    })
    .await;
    assert!(text.contains("within 2s"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_redirects_end() {
    if !is_root() {
        return;
    }
    let text =
        failure(|request| Reply::new(302, "").header("location", request.path.clone())).await;
    assert!(
        text.contains("redirect") && text.contains("more than 10"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_registry_is_not_spoken_to_in_plain() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let server = Server::start(move |request| image.answer(request)).await;
    let fixture = Fixture::new("");
    let name = format!("{}/app:one", server.address);
    let error = fixture.pull(&name).await.unwrap_err();
    assert!(
        matches!(error.fetch_error(), Some(FetchError::Connect { .. })),
        "{error:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_cancels_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let big = digest(&image.layers[0]);
    let name = big.clone();
    let server = Server::start(move |request| {
        let reply = image.answer(request);
        if request.path.contains(&name) {
            reply.hang_after_head()
        } else {
            reply
        }
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let reference = format!("{host}/app:one");
    let asked = async {
        while server.count(&big) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        outcome = fixture.pull(&reference) => panic!("{outcome:?}"),
        () = asked => {}
    }
    fixture.assert_empty();
}
