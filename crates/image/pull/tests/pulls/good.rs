//! What should work.

use crioxide_pull::{ImageUser, PullRequest, Removal};

use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, digest, noise, tar};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_pulled_known_by_all_names_and_removed() {
    if !is_root() {
        return;
    }
    let layers = [
        (
            tar(&[("etc/hostname", b"one"), ("big", &noise(200_000))]),
            Packing::Gzip,
        ),
        (tar(&[("etc/.wh.hostname", b"")]), Packing::Zstd),
        (tar(&[("third", b"3")]), Packing::Plain),
    ];
    let image = Image::new(&layers, "33:33");
    let served = image.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);

    let pulled = fixture.pull(&format!("{host}/app:list")).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());
    assert_eq!(pulled.digest.as_str(), digest(&image.listed()));

    let images = fixture.images();
    let info = images.status(&format!("{host}/app:list")).unwrap().unwrap();
    let (list, own) = (digest(&image.listed()), digest(&image.manifest));
    let mut digests = [format!("{host}/app@{list}"), format!("{host}/app@{own}")];
    digests.sort();
    assert_eq!(info.repo_tags, [format!("{host}/app:list")]);
    assert_eq!(info.repo_digests, digests);
    assert_eq!(info.user, ImageUser::Uid(33));
    assert_eq!(info.annotations["a"], "b");
    let tars: usize = image.tars.iter().map(Vec::len).sum();
    assert!(info.size > tars as u64);
    let record = images.lookup(&image.id()[..5]).unwrap().unwrap();
    let keys = [
        digest(&image.config),
        format!("manifest-{list}"),
        format!("manifest-{own}"),
        "manifest".to_owned(),
    ];
    assert_eq!(record.big_data_names, keys);
    assert_eq!(record.metadata, "{}");
    assert!(record.created.starts_with("2023-11-14T22:13:20"));
    for name in [
        format!("{host}/app@{list}"),
        format!("{host}/app:other@{own}"),
        list,
        image.id(),
        format!("sha256:{}", image.id()),
    ] {
        assert_eq!(
            images.lookup(&name).unwrap().unwrap().id,
            image.id(),
            "{name}"
        );
    }
    for name in [
        format!("{host}/app:other"),
        format!("{host}/other@{own}"),
        "fff".to_owned(),
        "0".repeat(64),
    ] {
        assert!(images.lookup(&name).unwrap().is_none(), "{name}");
    }
    let stored = fixture.store.layers().unwrap();
    let facts: Vec<_> = stored
        .iter()
        .map(|layer| (layer.diff_digest.clone(), layer.compression))
        .collect();
    let expected: Vec<_> = image
        .tars
        .iter()
        .map(|tar| digest(tar))
        .zip([2, 4, 0])
        .collect();
    assert_eq!(facts, expected);

    // The other tag brings nothing new but a name; removing one name keeps the image.
    let before = server.count("/blobs/");
    fixture.pull(&format!("{host}/app:one")).await.unwrap();
    assert_eq!(
        server.count("/blobs/"),
        before + 1,
        "only the config is read again"
    );
    let removed = images.remove(&format!("{host}/app:list")).unwrap();
    assert_eq!(
        removed,
        Removal::Untagged {
            name: format!("{host}/app:list")
        }
    );
    assert_eq!(images.list().unwrap().len(), 1);
    assert_eq!(
        images.remove(&format!("{host}/app:one")).unwrap(),
        Removal::Deleted { id: image.id() }
    );
    assert_eq!(images.remove(&image.id()).unwrap(), Removal::NotFound);
    fixture.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_manifests_are_kept_as_they_are() {
    if !is_root() {
        return;
    }
    let image = Image::simple().in_docker_format();
    let served = image.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    for tag in ["one", "list"] {
        fixture.pull(&format!("{host}/app:{tag}")).await.unwrap();
    }
    assert_eq!(
        fixture
            .store
            .image_big_data(&image.id(), "manifest")
            .unwrap(),
        image.manifest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_gives_a_digested_name_only() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let served = image.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let name = format!("{host}/app@{}", digest(&image.manifest));
    fixture.pull(&format!("docker://{name}")).await.unwrap();
    let info = fixture.images().status(&name).unwrap().unwrap();
    assert!(info.repo_tags.is_empty());
    assert_eq!(info.repo_digests, [name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_pulls_are_one() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let server = Server::start(move |request| image.answer(request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let name = format!("{host}/app:one");
    let (a, b, c) = tokio::join!(
        fixture.pull(&name),
        fixture.pull(&name),
        fixture.pull(&name)
    );
    assert_eq!(a.unwrap(), b.unwrap());
    c.unwrap();
    assert_eq!(server.count("/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_with_common_layers_fetch_them_once() {
    if !is_root() {
        return;
    }
    let base = (tar(&[("base", &noise(400_000))]), Packing::Gzip);
    let first = Image::new(&[base.clone(), (tar(&[("one", b"1")]), Packing::Gzip)], "");
    let second = Image::new(&[base, (tar(&[("two", b"2")]), Packing::Gzip)], "");
    let base_digest = digest(&first.layers[0]);
    let server = Server::start(move |request| match request.path.contains("/second/") {
        true => second.answer(request),
        false => first.answer(request),
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let names = [format!("{host}/first:one"), format!("{host}/second:one")];
    let (a, b) = tokio::join!(fixture.pull(&names[0]), fixture.pull(&names[1]));
    assert_ne!(a.unwrap().id, b.unwrap().id);
    assert_eq!(server.count(&base_digest), 1);
    assert_eq!(fixture.store.layers().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_asked_first_and_may_fail() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let broken = Server::start(|_| crate::server::Reply::new(404, "")).await;
    let server = Server::start(move |request| image.answer(request)).await;
    let mirror =
        |host: &str| format!("[[registry.mirror]]\nlocation = \"{host}\"\ninsecure = true\n");
    let fixture = Fixture::new(&format!(
        "[[registry]]\nlocation = \"registry.invalid\"\n{}{}",
        mirror(&broken.address.to_string()),
        mirror(&format!("{}/proxy", server.address))
    ));
    let pulled = fixture.pull("registry.invalid/app:one").await.unwrap();
    assert_eq!(pulled.endpoint, format!("{}/proxy/app:one", server.address));
    assert_eq!(broken.count("/v2/app/manifests/one"), 1);
    assert_eq!(
        fixture.images().list().unwrap()[0].repo_tags,
        ["registry.invalid/app:one"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn short_names_are_tried_in_order() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let empty = Server::start(|_| crate::server::Reply::new(404, "")).await;
    let server = Server::start(move |request| image.answer(request)).await;
    let (first, second) = (empty.address.to_string(), server.address.to_string());
    let fixture = Fixture::new(&format!(
        "unqualified-search-registries = [\"{first}\", \"{second}\"]\nshort-name-mode = \"disabled\"\n[[registry]]\nlocation = \"{first}\"\ninsecure = true\n[[registry]]\nlocation = \"{second}\"\ninsecure = true\n"
    ));
    let pulled = fixture.pull("app:one").await.unwrap();
    assert_eq!(pulled.reference.to_string(), format!("{second}/app:one"));
    assert!(fixture.images().lookup("app:one").unwrap().is_some());
    let error = fixture
        .puller
        .pull(PullRequest::new("app:nowhere"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&first) && error.contains(&second) && error.contains("not found"),
        "{error}"
    );
}
