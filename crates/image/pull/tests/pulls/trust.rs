//! Policies that ask for signatures; skopeo and gpg make them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crioxide_pull::PullRequest;

use crate::debian_registry::{Registry, has};
use crate::fixture::{Fixture, is_root};
use crate::image::Image;

/// A key ring of its own.
struct Keys {
    home: tempfile::TempDir,
}

impl Keys {
    /// With a key `user`, whose public half is in the file that is returned.
    fn new(user: &str) -> (Self, PathBuf) {
        let keys = Self {
            home: tempfile::tempdir_in("/var/tmp").unwrap(),
        };
        keys.gpg(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            user,
            "rsa2048",
            "sign",
        ]);
        let public = keys.home.path().join("public.gpg");
        let target = public.display().to_string();
        keys.gpg(&["--armor", "--output", &target, "--export", user]);
        (keys, public)
    }

    fn gpg(&self, arguments: &[&str]) {
        let done = Command::new("gpg")
            .env("GNUPGHOME", self.home.path())
            .args(["--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Pushes a signed image.
    fn push(&self, places: &Path, user: &str, source: &str, target: &str) {
        let done = Command::new("skopeo")
            .env("GNUPGHOME", self.home.path())
            .arg("--insecure-policy")
            .args(["--registries.d".as_ref(), places.as_os_str()])
            .args([
                "copy",
                "-q",
                "--preserve-digests",
                "--dest-tls-verify=false",
            ])
            .args(["--sign-by", user, source, target])
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Its agent would stay.
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", self.home.path())
            .args(["--kill", "all"])
            .status();
    }
}

fn policy(fixture: &Fixture, name: &str, key: &Path, identity: &str) -> PathBuf {
    let path = fixture.path(name);
    let text = format!(
        r#"{{"default":[{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{}","signedIdentity":{identity}}}]}}"#,
        key.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_by_skopeo_are_verified_at_the_pull_and_later() {
    if !is_root() || !has(&["skopeo", "gpg", "docker-registry"]) {
        return;
    }
    let work = tempfile::tempdir_in("/var/tmp").unwrap();
    let Some(registry) = Registry::start(work.path(), None).await else {
        return;
    };
    let host = &registry.host;
    let fixture = Fixture::insecure(host);
    let (keys, public) = Keys::new("signer@example.com");
    let (_others, other) = Keys::new("other@example.com");
    let places = fixture.path("registries.d");
    std::fs::create_dir_all(&places).unwrap();
    let lookaside = fixture.path("signatures");
    let place = format!(
        "default-docker:\n  lookaside: file://{0}\n  lookaside-staging: file://{0}\n  sigstore: file://{0}\n  sigstore-staging: file://{0}\n",
        lookaside.display()
    );
    std::fs::write(places.join("default.yaml"), place).unwrap();
    let image = Image::simple();
    let layout = work.path().join("layout");
    image.write_layout(&layout);
    let source = format!("oci:{}:quay.io/team/app:one", layout.display());
    let name = format!("{host}/app:one");
    keys.push(
        &places,
        "signer@example.com",
        &source,
        &format!("docker://{name}"),
    );

    let usual = r#"{"type":"matchRepoDigestOrExact"}"#;
    let good = policy(&fixture, "good.json", &public, usual);
    let wrong_key = policy(&fixture, "key.json", &other, usual);
    let elsewhere = r#"{"type":"exactRepository","dockerRepository":"quay.io/other"}"#;
    let wrong_name = policy(&fixture, "name.json", &public, elsewhere);
    let pull = async |policy: &Path| {
        let request = PullRequest {
            policy: Some(policy.to_owned()),
            ..PullRequest::new(&name)
        };
        fixture.puller.pull(request).await
    };
    for (policy, problem) in [
        (&wrong_key, "none of the keys"),
        (&wrong_name, "it is for the name"),
    ] {
        let error = pull(policy).await.unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(problem), "{text}");
        fixture.assert_empty();
    }
    let pulled = pull(&good).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());

    // What is kept with the image is enough to judge it by other policies, and skopeo reads it too.
    let images = fixture.images();
    images.verify(&image.id(), &name, &good).unwrap();
    assert!(images.verify(&image.id(), &name, &wrong_key).is_err());
    let renamed = format!("{host}/another:one");
    assert!(images.verify(&image.id(), &renamed, &good).is_err());
    let record = images.lookup(&image.id()).unwrap().unwrap();
    assert!(
        record.metadata.contains("signatures-sizes"),
        "{}",
        record.metadata
    );

    // A signature that was damaged, and none at all.
    images.remove(&image.id()).unwrap();
    let signature = std::fs::read_dir(&lookaside)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("signature-1");
    let mut bytes = std::fs::read(&signature).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&signature, bytes).unwrap();
    assert!(pull(&good).await.is_err());
    std::fs::remove_file(&signature).unwrap();
    let text = format!("{:?}", pull(&good).await.unwrap_err());
    assert!(text.contains("no OpenPGP signature"), "{text}");
    fixture.assert_empty();
}
