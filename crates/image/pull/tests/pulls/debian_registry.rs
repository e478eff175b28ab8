//! Debian's docker-registry, filled by skopeo; what we store is read back by skopeo.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, digest, noise, tar};

pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
}

impl Registry {
    /// `tls` names files with certificate and key.
    pub(crate) async fn start(directory: &Path, tls: Option<(&Path, &Path)>) -> Option<Self> {
        if !has(&["docker-registry", "skopeo"]) {
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let host = format!("127.0.0.1:{port}");
        let conf = directory.join("registry.yml");
        let tls = tls.map(|(certificate, key)| {
            format!(
                ", tls: {{certificate: {}, key: {}}}",
                certificate.display(),
                key.display()
            )
        });
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'{}}}\n",
            directory.join("registry").display(),
            tls.unwrap_or_default()
        );
        std::fs::write(&conf, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&conf)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, host };
        while std::net::TcpStream::connect(&registry.host).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether all programs are there; says so when one is not.
pub(crate) fn has(programs: &[&str]) -> bool {
    for program in programs {
        let version = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if version.is_err() {
            println!("skipped: needs {program}");
            return false;
        }
    }
    true
}

pub(crate) fn skopeo(arguments: &[&str]) {
    let done = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_back_bit_identical_layers() {
    if !is_root() {
        return;
    }
    let work = tempfile::tempdir_in("/var/tmp").unwrap();
    let Some(registry) = Registry::start(work.path(), None).await else {
        return;
    };
    let layers = [
        (
            tar(&[("etc/hostname", b"one"), ("big", &noise(300_000))]),
            Packing::Gzip,
        ),
        (
            tar(&[("etc/.wh.hostname", b""), ("two", b"2")]),
            Packing::Zstd,
        ),
        (tar(&[("three", b"3")]), Packing::Plain),
    ];
    let image = Image::new(&layers, "");
    let layout = work.path().join("layout");
    image.write_layout(&layout);
    let host = &registry.host;
    let source = format!("oci:{}:quay.io/team/app:one", layout.display());
    skopeo(&[
        "copy",
        "-q",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &source,
        &format!("docker://{host}/app:one"),
    ]);

    let fixture = Fixture::insecure(host);
    let by_digest = format!("{host}/app@{}", digest(&image.manifest));
    let pulled = fixture.pull(&by_digest).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());
    fixture.pull(&format!("{host}/app:one")).await.unwrap();

    let out = work.path().join("out");
    let stored = format!(
        "containers-storage:[overlay@{}+{}]{host}/app:one",
        fixture.path("root").display(),
        fixture.path("run").display()
    );
    skopeo(&["copy", "-q", &stored, &format!("dir:{}", out.display())]);
    // skopeo leaves a bind mount of the driver's directory on itself.
    let overlay = fixture.path("root/overlay");
    let _ = Command::new("umount")
        .arg("-l")
        .arg(&overlay)
        .stderr(Stdio::null())
        .status();
    for tar in &image.tars {
        let file = out.join(&digest(tar)["sha256:".len()..]);
        assert!(
            std::fs::read(&file).unwrap() == *tar,
            "{} differs",
            file.display()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_a_trusted_certificate() {
    if !is_root() || !has(&["openssl"]) {
        return;
    }
    let work = tempfile::tempdir_in("/var/tmp").unwrap();
    let (certificate, key) = (work.path().join("ca.crt"), work.path().join("tls.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args([
            std::ffi::OsStr::new("-keyout"),
            key.as_os_str(),
            "-out".as_ref(),
            certificate.as_os_str(),
        ])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let Some(registry) = Registry::start(work.path(), Some((&certificate, &key))).await else {
        return;
    };
    let image = Image::simple();
    let layout = work.path().join("layout");
    image.write_layout(&layout);
    let host = &registry.host;
    let source = format!("oci:{}:quay.io/team/app:one", layout.display());
    let name = format!("{host}/app:one");
    skopeo(&[
        "copy",
        "-q",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &source,
        &format!("docker://{name}"),
    ]);

    let fixture = Fixture::new("");
    let text = fixture.failure(&name).await;
    assert!(
        text.contains("connect to") && text.to_lowercase().contains("certificate"),
        "{text}"
    );

    let trusting = Fixture::new("");
    let directory = trusting.path("certs.d").join(host);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(&certificate, directory.join("ca.crt")).unwrap();
    trusting.pull(&name).await.unwrap();

    let careless = Fixture::insecure(host);
    careless.pull(&name).await.unwrap();
}
