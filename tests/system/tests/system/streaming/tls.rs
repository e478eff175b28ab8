//! TLS, with certificates that change.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::streams::{Command as Session, Identity, connect};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, requirements, skip_unless};

use super::{NEWEST, OUTPUTS};
use crate::scene::{Scene, possible};

fn openssl(arguments: &[&str], folder: &Path) -> Result<()> {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("run openssl")?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "openssl {arguments:?}: {said}");
    Ok(())
}

/// An authority, and a certificate of it for 127.0.0.1: files `<name>-ca.pem`, `<name>.pem` and `<name>.key`.
fn certificates(folder: &Path, name: &str) -> Result<Identity> {
    let file = |end: &str| format!("{name}{end}");
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let (ca, ca_key) = (file("-ca.pem"), file("-ca.key"));
    let subject = format!("/CN=authority {name}");
    let mut authority = vec!["req", "-x509", "-days", "2", "-subj", &subject];
    authority.extend(key);
    authority.extend(["-keyout", &ca_key, "-out", &ca]);
    openssl(&authority, folder)?;
    let (pem, own_key) = (file(".pem"), file(".key"));
    let mut own = vec!["req", "-x509", "-days", "2", "-subj", "/CN=node"];
    own.extend(key);
    own.extend([
        "-CA", &ca, "-CAkey", &ca_key, "-keyout", &own_key, "-out", &pem,
    ]);
    own.extend(["-addext", "subjectAltName=IP:127.0.0.1"]);
    own.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl(&own, folder)?;
    let read = |end: &str| std::fs::read_to_string(folder.join(file(end)));
    Ok(Identity {
        authority: read("-ca.pem")?,
        certificate: Some((read(".pem")?, read(".key")?)),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_and_reloaded() -> Result<()> {
    skip_unless!(possible(), requirements::program("openssl"));
    let folder = tempfile::tempdir()?;
    let first = certificates(folder.path(), "first")?;
    let second = certificates(folder.path(), "second")?;
    let show = |name: &str| -> Result<()> {
        for (end, to) in [(".pem", "cert"), (".key", "key"), ("-ca.pem", "ca")] {
            let new = folder.path().join(format!("{to}.new"));
            std::fs::copy(folder.path().join(format!("{name}{end}")), &new)?;
            std::fs::rename(new, folder.path().join(to))?;
        }
        Ok(())
    };
    show("first")?;
    let folder_name = folder.path().display();
    let scene = Scene::start_with(NodeOptions {
        api_keys: format!(
            "stream_enable_tls = true\nstream_tls_cert = \"{folder_name}/cert\"\n\
             stream_tls_key = \"{folder_name}/key\"\nstream_tls_ca = \"{folder_name}/ca\"\n"
        ),
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "3600"]);
    let (_, id) = node.run(&node.pod("tls"), &container, "").await?;
    let says_hello = async |identity: &Identity, protocol: &str| -> Result<()> {
        let url = node
            .client
            .exec_url(&id, &["echo", "hello"], OUTPUTS)
            .await?;
        ensure!(url.starts_with("https://127.0.0.1:"), "{url}");
        let connection = connect(&url, Some(identity)).await?;
        let done = Session::open(connection, protocol, OUTPUTS).await?;
        let done = done.finish().await?;
        ensure!(done.stdout == b"hello\n", "{done:?}");
        Ok(())
    };
    for protocol in NEWEST {
        says_hello(&first, protocol).await?;
    }
    let anonymous = Identity {
        certificate: None,
        ..first.clone()
    };
    ensure!(says_hello(&anonymous, NEWEST[0]).await.is_err());
    let stranger = Identity {
        certificate: second.certificate.clone(),
        ..first.clone()
    };
    ensure!(says_hello(&stranger, NEWEST[0]).await.is_err());
    // A key that does not fit leaves the old pair in force.
    std::fs::copy(folder.path().join("second.key"), folder.path().join("key"))?;
    says_hello(&first, NEWEST[0]).await?;
    show("second")?;
    eventually("the new certificate is shown", async || {
        says_hello(&second, NEWEST[1]).await
    })
    .await?;
    ensure!(says_hello(&first, NEWEST[0]).await.is_err());
    scene.node.finish().await
}
