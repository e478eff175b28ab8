//! A registry inside the test that serves images from memory and can be told to fail in every way that matters.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::image::{Blob, Image};

/// The first byte of a connection that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// What happens instead of the right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This HTTP status with an error body.
    Status(u16),
    /// The connection stays open and silent.
    Hang,
    /// The headers and half of the body, then the end of the connection.
    Truncate,
    /// The right length with one bit flipped in the middle.
    Corrupt,
    /// This body instead.
    Replace(Vec<u8>),
}

#[derive(Debug, Default)]
struct Content {
    /// Path below `/v2/` to answer.
    answers: HashMap<String, Arc<Blob>>,
    /// Faults by a part of the path; each is used for every request that matches.
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
}

/// The server; it ends with this value.
#[derive(Debug)]
pub struct ScriptedRegistry {
    address: SocketAddr,
    content: Arc<Mutex<Content>>,
    server: JoinHandle<()>,
}

impl ScriptedRegistry {
    /// Starts an empty one on a free loopback port.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts an empty one on an address of this host.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on `{address}`"))?;
        let address = listener.local_addr().context("read the port listened on")?;
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                // A client that goes away early is not this side's failure.
                tokio::spawn(async move { serve(stream, &shared).await.ok() });
            }
        });
        Ok(Self {
            address,
            content,
            server,
        })
    }

    /// `127.0.0.1:<port>`, the first part of image names.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Serves the image as `<repository>:<tag>` and by digest; returns its full name.
    pub fn add(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.add_manifest(repository, tag, &image.manifest);
        let mut content = self.content();
        for blob in image.layers.iter().chain([&image.config]) {
            content.answers.insert(
                format!("{repository}/blobs/{}", blob.digest),
                Arc::new(blob.clone()),
            );
        }
        drop(content);
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Serves a manifest or list by name and digest.
    pub fn add_manifest(&self, repository: &str, tag: &str, manifest: &Blob) {
        let mut content = self.content();
        for reference in [tag, manifest.digest.as_str()] {
            content.answers.insert(
                format!("{repository}/manifests/{reference}"),
                Arc::new(manifest.clone()),
            );
        }
    }

    /// From now on requests whose path holds `part` fail so.
    pub fn fail(&self, part: &str, fault: Fault) {
        self.content().faults.push((part.to_owned(), fault));
    }

    /// No more faults.
    pub fn heal(&self) {
        self.content().faults.clear();
    }

    /// Method and path of each request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.content().requests.clone()
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, content: &Mutex<Content>) -> Result<()> {
    let mut received = Vec::new();
    loop {
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            // Clients try TLS first. Like a server of plain HTTP, end what cannot become a request.
            if received.first() == Some(&TLS_HANDSHAKE) {
                return Ok(());
            }
            continue;
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        received.drain(..end + 4);
        let mut words = head.split_whitespace();
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if !answer(&mut stream, content, method, path).await? {
            return Ok(());
        }
    }
}

/// Answers one request; false when the connection is at its end.
async fn answer(
    stream: &mut TcpStream,
    content: &Mutex<Content>,
    method: &str,
    path: &str,
) -> Result<bool> {
    let below = path.strip_prefix("/v2/").unwrap_or(path).to_owned();
    let (blob, fault) = {
        let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
        content.requests.push(format!("{method} {path}"));
        let fault = content
            .faults
            .iter()
            .find(|(part, _)| path.contains(part))
            .map(|(_, fault)| fault.clone());
        (content.answers.get(&below).cloned(), fault)
    };
    let mut blob = match (blob, fault.as_ref()) {
        (_, Some(Fault::Hang)) => std::future::pending().await,
        (_, Some(Fault::Status(status))) => {
            let body = br#"{"errors":[{"code":"SCRIPTED","message":"as the test asked"}]}"#;
            return send(
                stream,
                *status,
                &Blob::new("application/json", body.to_vec()),
                method,
                body.len(),
            )
            .await;
        }
        (Some(blob), _) => blob,
        (None, _) if below.is_empty() => Arc::new(Blob::new("application/json", b"{}".to_vec())),
        (None, _) => {
            let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}"#;
            return send(
                stream,
                404,
                &Blob::new("application/json", body.to_vec()),
                method,
                body.len(),
            )
            .await;
        }
    };
    let mut sent = blob.bytes.len();
    match fault {
        Some(Fault::Truncate) => sent /= 2,
        Some(Fault::Corrupt) => {
            let middle = sent / 2;
            Arc::make_mut(&mut blob).bytes[middle] ^= 1;
        }
        Some(Fault::Replace(bytes)) => {
            sent = bytes.len();
            Arc::make_mut(&mut blob).bytes = bytes;
        }
        _ => {}
    }
    send(stream, 200, &blob, method, sent).await
}

async fn send(
    stream: &mut TcpStream,
    status: u16,
    blob: &Blob,
    method: &str,
    sent: usize,
) -> Result<bool> {
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: {}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\r\n",
        blob.media_type,
        blob.bytes.len(),
        blob.digest
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&blob.bytes[..sent]).await?;
        if sent < blob.bytes.len() {
            stream.shutdown().await?;
            return Ok(false);
        }
    }
    stream.flush().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{Fault, ScriptedRegistry};
    use crate::image::{Compression, Format, ImageBuilder, Layer};
    use crate::registry::http_client;

    #[tokio::test]
    async fn other_clients_read_it() -> anyhow::Result<()> {
        crate::skip_unless!(crate::requirements::program("skopeo"));
        for format in [Format::Oci, Format::Schema2] {
            let layer = Layer::new().file("a", b"content", 0o644);
            let image = ImageBuilder::new(format)
                .layer(layer, Compression::Gzip)
                .build()?;
            let registry = ScriptedRegistry::start().await?;
            let name = registry.add("some/name", "tag", &image);
            let folder = tempfile::tempdir()?;
            let copied = tokio::process::Command::new("skopeo")
                .args(["copy", "--insecure-policy", "--src-tls-verify=false"])
                .arg(format!("docker://{name}"))
                .arg(format!("dir:{}", folder.path().display()))
                .output()
                .await?;
            anyhow::ensure!(
                copied.status.success(),
                "{}",
                String::from_utf8_lossy(&copied.stderr)
            );
            let manifest = std::fs::read(folder.path().join("manifest.json"))?;
            anyhow::ensure!(
                manifest == image.manifest.bytes,
                "{format:?}: another manifest"
            );
        }
        Ok(())
    }

    #[tokio::test]
    async fn serves_and_fails_as_told() {
        let layer = Layer::new().file("a", b"content", 0o644);
        let builder = ImageBuilder::new(Format::Oci).layer(layer, Compression::Plain);
        let image = builder.build().expect("an image");
        let registry = ScriptedRegistry::start().await.expect("a registry");
        registry.add("some/name", "tag", &image);
        let http = http_client().expect("a client");
        let manifest = format!("http://{}/v2/some/name/manifests/tag", registry.host());
        let blob = format!(
            "http://{}/v2/some/name/blobs/{}",
            registry.host(),
            image.layers[0].digest
        );
        let get = async |url: &str| http.get(url).send().await.expect("an answer");
        assert_eq!(
            get(&manifest).await.bytes().await.expect("a body"),
            image.manifest.bytes
        );
        assert_eq!(
            get(&blob).await.bytes().await.expect("a body"),
            image.layers[0].bytes
        );
        registry.fail("/blobs/", Fault::Corrupt);
        assert_ne!(
            get(&blob).await.bytes().await.expect("a body"),
            image.layers[0].bytes
        );
        registry.heal();
        registry.fail("/blobs/", Fault::Truncate);
        assert!(get(&blob).await.bytes().await.is_err());
        registry.heal();
        registry.fail("/manifests/", Fault::Status(429));
        assert_eq!(get(&manifest).await.status(), 429);
        assert!(registry.requests().len() >= 5);
    }
}
