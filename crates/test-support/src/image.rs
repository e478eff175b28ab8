//! Images made on the spot: layers from files given in the test, in every compression and manifest format.

mod busybox;
mod layer;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use busybox::{busybox_layer, busybox_program};
pub use layer::{Compression, Layer};

/// The family of media types of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image manifest and index.
    Oci,
    /// Docker schema 2 manifest and manifest list.
    Schema2,
}

/// Bytes with their name and type, as registries keep them.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Media type in descriptors that point here.
    pub media_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Names the bytes by their digest.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            digest: sha256(&bytes),
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    /// The descriptor that points here.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A complete image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// The configuration; its digest is the image's id.
    pub config: Blob,
    /// Layers as they travel, lowest first.
    pub layers: Vec<Blob>,
    /// Operating system and architecture.
    pub platform: (String, String),
}

/// Builds an [`Image`].
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    format: Format,
    platform: (String, String),
    config: Value,
    layers: Vec<(Layer, Compression)>,
    annotations: Value,
}

impl ImageBuilder {
    /// An image without layers for this machine.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            platform: ("linux".to_owned(), architecture().to_owned()),
            config: json!({"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}),
            layers: Vec::new(),
            annotations: json!({}),
        }
    }

    /// busybox with all its commands, gzip-compressed: the image of most tests.
    ///
    /// # Errors
    /// When no static busybox is installed.
    pub fn busybox(format: Format) -> anyhow::Result<Self> {
        Ok(Self::new(format)
            .layer(busybox_layer()?, Compression::Gzip)
            .configure("Cmd", json!(["sh"])))
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer, compression: Compression) -> Self {
        self.layers.push((layer, compression));
        self
    }

    /// Sets a key of the image's `config`, such as `User` or `Entrypoint`.
    #[must_use]
    pub fn configure(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Sets an annotation of the manifest.
    #[must_use]
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = value.into();
        self
    }

    /// For another machine than this.
    #[must_use]
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        self.platform = (os.to_owned(), architecture.to_owned());
        self
    }

    /// Packs everything.
    ///
    /// # Errors
    /// When a layer cannot be compressed.
    pub fn build(self) -> anyhow::Result<Image> {
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for (layer, compression) in self.layers {
            let raw = layer.into_tar()?;
            diff_ids.push(sha256(&raw));
            layers.push(Blob::new(
                layer_type(self.format, compression),
                compression.pack(&raw)?,
            ));
        }
        let history: Vec<Value> = layers
            .iter()
            .map(|_| json!({"created": "2026-01-01T00:00:00Z", "created_by": "test"}))
            .collect();
        let config = json!({
            "architecture": self.platform.1,
            "os": self.platform.0,
            "created": "2026-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = Blob::new(config_type(self.format), serde_json::to_vec(&config)?);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type(self.format),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        if self.annotations != json!({}) {
            manifest["annotations"] = self.annotations;
        }
        Ok(Image {
            manifest: Blob::new(manifest_type(self.format), serde_json::to_vec(&manifest)?),
            config,
            layers,
            platform: self.platform,
        })
    }
}

/// The manifest list or index over `images`.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn index(format: Format, images: &[Image]) -> anyhow::Result<Blob> {
    let manifests: Vec<Value> = images
        .iter()
        .map(|image| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] =
                json!({"os": image.platform.0, "architecture": image.platform.1});
            descriptor
        })
        .collect();
    let media_type = match format {
        Format::Oci => "application/vnd.oci.image.index.v1+json",
        Format::Schema2 => "application/vnd.docker.distribution.manifest.list.v2+json",
    };
    let list = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    Ok(Blob::new(media_type, serde_json::to_vec(&list)?))
}

/// `sha256:<hex>` of the bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// This machine's architecture in images' words.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn manifest_type(format: Format) -> &'static str {
    match format {
        Format::Oci => "application/vnd.oci.image.manifest.v1+json",
        Format::Schema2 => "application/vnd.docker.distribution.manifest.v2+json",
    }
}

fn config_type(format: Format) -> &'static str {
    match format {
        Format::Oci => "application/vnd.oci.image.config.v1+json",
        Format::Schema2 => "application/vnd.docker.container.image.v1+json",
    }
}

fn layer_type(format: Format, compression: Compression) -> &'static str {
    match (format, compression) {
        (Format::Oci, Compression::Plain) => "application/vnd.oci.image.layer.v1.tar",
        (Format::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (Format::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (Format::Schema2, Compression::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
        (Format::Schema2, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (Format::Schema2, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, Format, ImageBuilder, Layer, sha256};

    #[test]
    fn every_part_is_named_by_its_content() {
        let layer = Layer::new().file("etc/hello", b"hello\n", 0o644);
        let image = ImageBuilder::new(Format::Oci)
            .layer(layer, Compression::Zstd)
            .build()
            .expect("an image");
        let manifest: serde_json::Value =
            serde_json::from_slice(&image.manifest.bytes).expect("JSON");
        assert_eq!(manifest["config"]["digest"], image.config.digest);
        assert_eq!(
            manifest["layers"][0]["digest"],
            sha256(&image.layers[0].bytes)
        );
        let raw = zstd::decode_all(image.layers[0].bytes.as_slice()).expect("zstd");
        let config: serde_json::Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
        assert_eq!(config["rootfs"]["diff_ids"][0], sha256(&raw));
    }
}
