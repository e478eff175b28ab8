//! Encrypted layers, as skopeo makes them.

use std::path::Path;
use std::process::Command;

use crioxide_pull::{FileImage, LoadRequest};
use crioxide_store::CheckDepth;

use crate::debian_registry::{has, skopeo};
use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, noise, tar};

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {arguments}: {errors}");
}

fn request(path: &Path) -> LoadRequest {
    LoadRequest {
        image: FileImage::parse(&format!("dir:{}", path.display())).unwrap(),
        names: vec!["example.org/secret:1".to_owned()],
        progress: None,
    }
}

async fn failure(fixture: &Fixture, path: &Path) -> String {
    let error = fixture.puller.load(request(path)).await.unwrap_err();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_opened_by_every_kind_of_key() {
    if !is_root() || !has(&["skopeo", "openssl"]) {
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let path = |name: &str| made.path().join(name);
    openssl(made.path(), "genrsa -out rsa.pem 2048");
    openssl(made.path(), "rsa -in rsa.pem -pubout -out rsa.pub");
    openssl(
        made.path(),
        "req -x509 -new -key rsa.pem -subj /CN=x -out rsa.crt",
    );
    openssl(
        made.path(),
        "rsa -in rsa.pem -traditional -outform der -out rsa.der",
    );
    for (curve, name) in [
        ("prime256v1", "p256"),
        ("secp384r1", "p384"),
        ("secp521r1", "p521"),
    ] {
        openssl(
            made.path(),
            &format!("ecparam -name {curve} -genkey -noout -out {name}.pem"),
        );
        openssl(
            made.path(),
            &format!("ec -in {name}.pem -pubout -out {name}.pub"),
        );
    }
    let data = noise(300_000);
    let first = tar(&[("data", &data)]);
    let second = tar(&[("etc/hostname", b"second")]);
    let image = Image::new(&[(first, Packing::Gzip), (second, Packing::Zstd)], "");
    image.write_layout(&path("plain"));
    let source = format!("oci:{}", path("plain").display());
    for (number, (reader, key)) in [
        ("jwe:rsa.pub", "rsa.pem"),
        ("jwe:rsa.pub", "rsa.der"),
        ("pkcs7:rsa.crt", "rsa.pem"),
        ("jwe:p256.pub", "p256.pem"),
        ("jwe:p384.pub", "p384.pem"),
        ("jwe:p521.pub", "p521.pem"),
    ]
    .into_iter()
    .enumerate()
    {
        let secret = path(&format!("secret-{number}"));
        let target = format!("dir:{}", secret.display());
        let (scheme, public) = reader.split_once(':').unwrap();
        let reader = format!("{scheme}:{}", path(public).display());
        skopeo(&["copy", "--encryption-key", &reader, &source, &target]);
        let fixture = Fixture::new("");
        let keys = fixture.path("keys");
        std::fs::create_dir(&keys).unwrap();
        let other = if key.starts_with("rsa") {
            "p256.pem"
        } else {
            "rsa.pem"
        };
        std::fs::copy(path(other), keys.join("other")).unwrap();
        let text = failure(&fixture, &secret).await;
        assert!(
            text.contains("is encrypted") && text.contains("none of the 1"),
            "{text}"
        );
        fixture.assert_empty();

        std::fs::copy(path(key), keys.join("ours")).unwrap();
        let loaded = fixture.puller.load(request(&secret)).await.unwrap();
        assert_eq!(loaded.id.as_str(), image.id());
        let layers = fixture.store.layers().unwrap();
        let base = crioxide_store::LayerId::parse(&layers[0].id).unwrap();
        let content = fixture.store.layer_content(&base).unwrap();
        assert!(std::fs::read(content.join("data")).unwrap() == data);
        assert!(fixture.store.check(CheckDepth::Digests).unwrap().is_empty());
        // What is here is not for those who have no key.
        std::fs::remove_file(keys.join("ours")).unwrap();
        let text = failure(&fixture, &secret).await;
        assert!(text.contains("is encrypted"), "{text}");
    }
}
