//! The real distribution registry (`docker-registry`) on a free port and an empty directory.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::image::{Blob, Image};
use crate::requirements;
use crate::waiting::eventually;

/// A registry process; it ends with this value.
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddrV4,
    process: Child,
    http: reqwest::Client,
    // Held for its drop, after the process's.
    _directory: TempDir,
}

impl TestRegistry {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        let program = requirements::program("docker-registry").map_err(anyhow::Error::msg)?;
        let directory = tempfile::tempdir().context("create the registry's directory")?;
        let address = free_address()?;
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: {address}\n",
            directory.path().join("data").display()
        );
        std::fs::write(&config, text).with_context(|| format!("write `{}`", config.display()))?;
        let process = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start docker-registry")?;
        let registry = Self {
            address,
            process,
            http: http_client()?,
            _directory: directory,
        };
        eventually("docker-registry answers", async || {
            let url = format!("http://{address}/v2/");
            Ok(registry.http.get(url).send().await?.error_for_status()?)
        })
        .await?;
        Ok(registry)
    }

    /// `127.0.0.1:<port>`, the first part of image names.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Stores the image under `<repository>:<tag>` and returns its full name.
    ///
    /// # Errors
    /// When the registry refuses a part of it.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(repository, blob).await?;
        }
        self.push_manifest(repository, tag, &image.manifest).await?;
        Ok(format!("{}/{repository}:{tag}", self.host()))
    }

    /// Stores a manifest or list alone. What it points at must be there.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Blob,
    ) -> Result<()> {
        let url = format!(
            "http://{}/v2/{repository}/manifests/{reference}",
            self.address
        );
        let request = self
            .http
            .put(url)
            .header("Content-Type", &manifest.media_type)
            .body(manifest.bytes.clone());
        accepted(request, "push a manifest").await?;
        Ok(())
    }

    async fn push_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let begun = accepted(self.http.post(url), "begin an upload").await?;
        let location = begun
            .headers()
            .get("Location")
            .context("an upload without a location")?
            .to_str()
            .context("an upload's location")?
            .to_owned();
        let joint = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joint}digest={}", blob.digest);
        accepted(self.http.put(url).body(blob.bytes.clone()), "push a blob").await?;
        Ok(())
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to save in either case.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An HTTP client for tests. It makes no TLS connections, but the library wants to know who would.
///
/// # Errors
/// When the client cannot be made.
pub fn http_client() -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another client in this process may have been first: then its choice is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .context("make an HTTP client")
}

async fn accepted(
    request: reqwest::RequestBuilder,
    what: &'static str,
) -> Result<reqwest::Response> {
    let response = request.send().await.context(what)?;
    let status = response.status();
    ensure!(
        status.is_success(),
        "{what}: {status}: {}",
        response.text().await.unwrap_or_default()
    );
    Ok(response)
}

fn free_address() -> Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    let port = listener.local_addr().context("find a free port")?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::{TestRegistry, http_client};
    use crate::image::{Compression, Format, ImageBuilder, Layer, index};
    use crate::requirements;

    #[tokio::test]
    async fn keeps_what_was_pushed() -> anyhow::Result<()> {
        crate::skip_unless!(requirements::program("docker-registry"));
        let registry = TestRegistry::start().await?;
        let layer = Layer::new().file("a", b"content", 0o644);
        let image = ImageBuilder::new(Format::Schema2)
            .layer(layer, Compression::Gzip)
            .build()?;
        registry.push("some/name", "tag", &image).await?;
        let list = index(Format::Schema2, std::slice::from_ref(&image))?;
        registry.push_manifest("some/name", "list", &list).await?;
        let url = format!("http://{}/v2/some/name/manifests/list", registry.host());
        let answer = http_client()?
            .get(url)
            .header("Accept", &list.media_type)
            .send()
            .await?;
        anyhow::ensure!(answer.bytes().await? == list.bytes);
        Ok(())
    }
}
