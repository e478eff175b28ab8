//! The image as an OCI layout directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::{Part, REFERENCE};

/// Where the program lies in the image.
pub(crate) const PROGRAM: &str = "/bin/crioxide";
const PASSWD: &str =
    "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// 2026-01-01: the same program gives the same image.
const TIME: u64 = 1_767_225_600;
const CREATED: &str = "2026-01-01T00:00:00Z";

/// The demo's image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WriteDemoImageError {
    /// The program cannot be read.
    #[error("read the program `{}`", path.display())]
    ReadProgram {
        /// The program.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program wants a dynamic loader, which the image does not have.
    #[error("`{}` is dynamically linked, and the demo's image holds no libraries: build it for a musl target", path.display())]
    Dynamic {
        /// The program.
        path: PathBuf,
    },
    /// A file of the layout cannot be written.
    #[error("write `{}`", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Writes the image made of `program`, an executable of this machine, as an OCI layout into `directory`, which is
/// created. The only image in its index is named [`REFERENCE`].
///
/// # Errors
/// When the program cannot be read or is not static, or the layout cannot be written.
pub fn write_layout(directory: &Path, program: &Path) -> Result<(), WriteDemoImageError> {
    let read_program = |source| WriteDemoImageError::ReadProgram {
        path: program.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(program)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(read_program)?;
    if wants_loader(&bytes) {
        return Err(WriteDemoImageError::Dynamic {
            path: program.to_owned(),
        });
    }
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|source| WriteDemoImageError::Write {
        path: blobs.clone(),
        source,
    })?;
    let layer = archive(&bytes).map_err(|source| WriteDemoImageError::Write {
        path: blobs.clone(),
        source,
    })?;
    // Uncompressed: packing would cost more than the demo saves by it.
    let layer = put(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let config = put(
        &blobs,
        "application/vnd.oci.image.config.v1+json",
        config(&layer).to_string().as_bytes(),
    )?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
    let mut manifest = put(&blobs, manifest_type, manifest.to_string().as_bytes())?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": REFERENCE});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
    write(&directory.join("index.json"), index.to_string().as_bytes())?;
    write(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )
}

fn config(layer: &Value) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": {"Entrypoint": Part::Web.command(), "Env": ["PATH=/bin"], "WorkingDir": "/"},
        // An uncompressed layer's digest is its id, too.
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created": CREATED, "created_by": "crioxide demo"}],
    })
}

fn archive(program: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::with_capacity(program.len() + (16 << 10)));
    for (path, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
    ] {
        archive.append_data(
            &mut header(EntryType::Directory, mode, 0),
            path,
            io::empty(),
        )?;
    }
    for (path, mode, bytes) in [
        (PROGRAM.trim_start_matches('/'), 0o755, program),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
        ("etc/group", 0o644, GROUP.as_bytes()),
    ] {
        archive.append_data(
            &mut header(EntryType::Regular, mode, bytes.len() as u64),
            path,
            bytes,
        )?;
    }
    archive.into_inner()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Stores the bytes under their digest and returns the descriptor.
fn put(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Value, WriteDemoImageError> {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    write(&blobs.join(&hex), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteDemoImageError> {
    std::fs::write(path, bytes).map_err(|source| WriteDemoImageError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Whether a 64-bit little-endian ELF program has an interpreter (`PT_INTERP`).
fn wants_loader(elf: &[u8]) -> bool {
    const INTERPRETER: usize = 3;
    let number = |at: usize, size: usize| -> usize {
        let bytes = elf.get(at..at.saturating_add(size)).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (headers, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|index| number(headers.saturating_add(index * size), 4) == INTERPRETER)
}

#[cfg(test)]
mod tests {
    use super::{WriteDemoImageError, write_layout};
    use sha2::{Digest, Sha256};
    use std::path::Path;

    #[test]
    fn a_static_program_becomes_an_image() {
        let folder = tempfile::tempdir().expect("a directory");
        let program = folder.path().join("program");
        std::fs::write(&program, b"\x7fELF of a kind without headers").expect("written");
        let layout = folder.path().join("layout");
        write_layout(&layout, &program).expect("a layout");
        let read = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
        };
        let index = read(&layout.join("index.json"));
        let blob = |digest: &serde_json::Value| {
            let hex = digest
                .as_str()
                .and_then(|text| text.strip_prefix("sha256:"))
                .expect("a digest");
            let path = layout.join("blobs/sha256").join(hex);
            let found: String = Sha256::digest(std::fs::read(&path).expect("a blob"))
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(found, hex);
            path
        };
        let manifest = read(&blob(&index["manifests"][0]["digest"]));
        let config = read(&blob(&manifest["config"]["digest"]));
        let layer = blob(&manifest["layers"][0]["digest"]);
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        let mut archive = tar::Archive::new(std::fs::File::open(layer).expect("the layer"));
        let paths: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .path()
                    .expect("a path")
                    .display()
                    .to_string()
            })
            .collect();
        assert!(paths.contains(&"bin/crioxide".to_owned()), "{paths:?}");
    }

    #[test]
    fn a_dynamic_program_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let error = write_layout(folder.path(), Path::new("/bin/sh")).expect_err("refused");
        assert!(
            matches!(error, WriteDemoImageError::Dynamic { .. }),
            "{error}"
        );
    }
}
