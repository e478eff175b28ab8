//! Images made for tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::server::{Reply, Request};
use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An image and its blobs.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) config: Vec<u8>,
    /// As served, base layer first.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) tars: Vec<Vec<u8>>,
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Bytes that do not compress to nothing.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8))
        .flat_map(|_| next())
        .take(length)
        .collect()
}

pub(crate) fn pack(tar: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Zstd => zstd::encode_all(tar, 3).unwrap(),
        Packing::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
    }
}

impl Image {
    pub(crate) fn new(layers: &[(Vec<u8>, Packing)], user: &str) -> Self {
        let tars: Vec<_> = layers.iter().map(|(tar, _)| tar.clone()).collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2023-11-14T22:13:20Z","config":{{"User":"{user}","Cmd":["sh"],"Env":null}},"rootfs":{{"type":"layers","diff_ids":{}}}}}"#,
            json(&diff_ids)
        )
        .into_bytes();
        let blobs = layers
            .iter()
            .map(|(tar, packing)| pack(tar, *packing))
            .collect();
        Self::assemble(config, blobs, tars)
    }

    /// An image of given parts, right or wrong.
    pub(crate) fn assemble(config: Vec<u8>, layers: Vec<Vec<u8>>, tars: Vec<Vec<u8>>) -> Self {
        let content = |bytes: &[u8], kind: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#,
                digest(bytes),
                bytes.len()
            )
        };
        let described: Vec<_> = layers
            .iter()
            .map(|blob| content(blob, "layer.v1.tar+gzip"))
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}],"annotations":{{"a":"b"}}}}"#,
            content(&config, "config.v1+json"),
            described.join(",")
        );
        Self {
            manifest: manifest.into_bytes(),
            media_type: MANIFEST,
            config,
            layers,
            tars,
        }
    }

    /// The same with a manifest in Docker's words.
    pub(crate) fn in_docker_format(mut self) -> Self {
        let text = String::from_utf8(self.manifest).unwrap();
        let text = text
            .replace(MANIFEST, DOCKER_MANIFEST)
            .replace(
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.docker.container.image.v1+json",
            )
            .replace(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            );
        self.manifest = text.into_bytes();
        self.media_type = DOCKER_MANIFEST;
        self
    }

    /// Two layers, gzip and zstd.
    pub(crate) fn simple() -> Self {
        let first = tar(&[("etc/hostname", b"first"), ("data", &noise(300_000))]);
        let second = tar(&[("etc/.wh.hostname", b""), ("second", b"2")]);
        Self::new(&[(first, Packing::Gzip), (second, Packing::Zstd)], "33:33")
    }

    pub(crate) fn id(&self) -> String {
        digest(&self.config)["sha256:".len()..].to_owned()
    }

    /// Every blob by digest.
    pub(crate) fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        let all = self.layers.iter().chain([&self.config]);
        all.map(|blob| (digest(blob), blob.clone())).collect()
    }

    /// A list with this image for this machine among others.
    pub(crate) fn listed(&self) -> Vec<u8> {
        let other = digest(b"another manifest");
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[
            {{"mediaType":"{MANIFEST}","digest":"{other}","size":7,"platform":{{"os":"linux","architecture":"s390x"}}}},
            {{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{}"}}}}]}}"#,
            self.media_type,
            digest(&self.manifest),
            self.manifest.len(),
            if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        )
        .into_bytes()
    }

    /// A well-behaved registry's answer: repository `app`, tags `one` (the image) and `list`.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let manifest = |bytes: Vec<u8>, media_type: &str| {
            Reply::new(200, bytes).header("content-type", media_type)
        };
        if request.path.contains("/manifests/") {
            let list = self.listed();
            return match name {
                "one" => manifest(self.manifest.clone(), self.media_type),
                _ if name == digest(&self.manifest) => {
                    manifest(self.manifest.clone(), self.media_type)
                }
                "list" => manifest(list, INDEX),
                _ if name == digest(&list) => manifest(list, INDEX),
                _ => Reply::new(
                    404,
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
            };
        }
        let Some(blob) = self.blobs().remove(name) else {
            return Reply::new(404, "");
        };
        match request.range_start() {
            None => Reply::new(200, blob),
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
                Reply::new(206, &blob[start..]).header("content-range", range)
            }
        }
    }

    /// Writes an OCI layout with the image as `one`.
    pub(crate) fn write_layout(&self, directory: &Path) {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let list = self.listed();
        for content in self
            .layers
            .iter()
            .chain([&self.config, &self.manifest, &list])
        {
            std::fs::write(blobs.join(&digest(content)["sha256:".len()..]), content).unwrap();
        }
        std::fs::write(
            directory.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":{},
                "annotations":{{"org.opencontainers.image.ref.name":"quay.io/team/app:one"}}}}]}}"#,
            digest(&self.manifest),
            self.manifest.len()
        );
        std::fs::write(directory.join("index.json"), index).unwrap();
    }
}

pub(crate) fn json(texts: &[String]) -> String {
    serde_json::to_string(texts).unwrap()
}
