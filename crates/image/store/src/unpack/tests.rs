use super::*;
use crate::tar_split::LayerTar;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

mod archive;
use archive::Archive;

struct Layer {
    directory: tempfile::TempDir,
}

impl Layer {
    fn unpack(tar: &[u8]) -> Result<(Self, Unpacked), UnpackError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("diff")).unwrap();
        let layer = Self { directory };
        let unpacked = unpack(&layer.path(""), &layer.directory.path().join("split"), tar)?;
        Ok((layer, unpacked))
    }

    fn path(&self, inner: &str) -> std::path::PathBuf {
        self.directory.path().join("diff").join(inner)
    }

    fn replay(&self) -> std::io::Result<Vec<u8>> {
        let split = File::open(self.directory.path().join("split")).unwrap();
        let mut tar = LayerTar::new(split, InRoot::open(self.path("")).unwrap());
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Unpacks, reproduces, and compares every byte and the digest.
fn round_trip(tar: &[u8]) -> Layer {
    let (layer, unpacked) = Layer::unpack(tar).unwrap();
    assert!(layer.replay().unwrap() == tar, "the reproduced tar differs");
    assert_eq!(unpacked.summary.diff_size, tar.len() as u64);
    assert_eq!(
        unpacked.summary.diff_id,
        Digest::from_sha256(&Sha256::digest(tar).into())
    );
    layer
}

fn refused(tar: &[u8]) -> String {
    match Layer::unpack(tar) {
        Ok(_) => panic!("the archive was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn plain_entries_come_out_and_go_back_in() {
    let mut tar = Archive::new();
    tar.directory("./", 0o750);
    tar.directory("usr/", 0o755);
    tar.file("usr/hello", 0o4711, b"hello");
    tar.file("usr/empty", 0o600, b"");
    tar.file("implied/parent/file", 0o644, &vec![7; 700_000]);
    tar.link(b'2', "usr/symlink", "../outside/../../etc");
    tar.link(b'1', "usr/hard", "usr/hello");
    let layer = round_trip(&tar.finish());
    let hello = std::fs::metadata(layer.path("usr/hello")).unwrap();
    assert_eq!(hello.permissions().mode() & 0o7777, 0o4711);
    assert_eq!(hello.mtime(), 1_600_000_000);
    assert_eq!(
        hello.ino(),
        std::fs::metadata(layer.path("usr/hard")).unwrap().ino()
    );
    assert_eq!(
        std::fs::metadata(layer.path("usr")).unwrap().mtime(),
        1_600_000_000
    );
    assert_eq!(
        std::fs::metadata(layer.path(""))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777,
        0o750
    );
    let target = std::fs::read_link(layer.path("usr/symlink")).unwrap();
    assert_eq!(target.to_str(), Some("../outside/../../etc"));
    assert_eq!(
        std::fs::read(layer.path("implied/parent/file")).unwrap(),
        vec![7; 700_000]
    );
}

#[test]
fn trailing_bytes_and_a_missing_end_are_reproduced() {
    let mut tar = Archive::new();
    tar.file("a", 0o644, b"x");
    let mut bytes = tar.finish();
    bytes.extend_from_slice(&[0; 9000]);
    bytes.extend_from_slice(b"rubbish");
    round_trip(&bytes);
    let mut tar = Archive::new();
    tar.file("a", 0o644, &[1; 512]);
    round_trip(&tar.without_end());
    round_trip(b"");
}

#[test]
fn long_names_and_bytes_that_are_no_text() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let mut tar = Archive::new();
    tar.gnu_long(b'L', long.as_bytes());
    tar.file("short", 0o644, b"by GNU");
    let layer = round_trip(&tar.finish());
    assert_eq!(std::fs::read(layer.path(&long)).unwrap(), b"by GNU");
    let mut tar = Archive::new();
    tar.pax(&[("path", &long), ("mtime", "1500000000.25")]);
    tar.file("short", 0o644, b"by PAX");
    tar.raw_name(b"\xff\xfe", b"bytes");
    let layer = round_trip(&tar.finish());
    let status = std::fs::metadata(layer.path(&long)).unwrap();
    assert_eq!(
        (status.mtime(), status.mtime_nsec()),
        (1_500_000_000, 250_000_000)
    );
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../evil", "a/../../evil", "/../evil"] {
        let mut tar = Archive::new();
        tar.file(name, 0o644, b"x");
        assert!(refused(&tar.finish()).contains("leads out"), "{name}");
    }
    let mut tar = Archive::new();
    tar.link(b'1', "link", "../../etc/passwd");
    assert!(refused(&tar.finish()).contains("leads out"));
}

#[test]
fn symlinks_cannot_carry_files_out() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    for link in [target, "../../../../../../../../../../tmp", "/"] {
        let mut tar = Archive::new();
        tar.link(b'2', "escape", link);
        tar.file("escape/evil", 0o644, b"x");
        let tar = tar.finish();
        // A dangling link on the way is an error; one that leads to the layer's root is followed there.
        if let Ok((layer, _)) = Layer::unpack(&tar) {
            assert!(layer.path("evil").exists());
        }
        assert!(!outside.path().join("evil").exists());
        assert!(!Path::new("/tmp/evil").exists() && !Path::new("/evil").exists());
    }
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "host").unwrap();
    let mut tar = Archive::new();
    tar.link(b'2', "dir", target);
    tar.link(b'1', "stolen", "dir/secret");
    assert!(Layer::unpack(&tar.finish()).is_err());
    let mut tar = Archive::new();
    tar.link(b'2', "file", secret.to_str().unwrap());
    tar.file("file", 0o644, b"overwritten");
    let _ = Layer::unpack(&tar.finish());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host");
}

#[test]
fn later_entries_replace_earlier_ones_without_following_them() {
    let mut tar = Archive::new();
    tar.directory("x/", 0o755);
    tar.directory("x/sub/", 0o755);
    tar.link(b'2', "x/sub", "/etc");
    tar.directory("x/", 0o700);
    let (layer, _) = Layer::unpack(&tar.finish()).unwrap();
    assert!(layer.path("x/sub").is_symlink());
    assert_eq!(
        std::fs::metadata(layer.path("x"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
}

#[test]
fn a_path_with_content_may_appear_once_only() {
    let mut tar = Archive::new();
    tar.file("a", 0o644, b"one");
    tar.file("./a", 0o644, b"two");
    assert!(refused(&tar.finish()).contains("duplicates of file paths not supported"));
}

#[test]
fn damage_is_refused_with_its_place() {
    let mut tar = Archive::new();
    tar.file("a", 0o644, &[5; 3000]);
    let good = tar.finish();
    assert!(refused(&good[..1500]).contains("ends early"));
    let mut bad = good.clone();
    bad[0] = b'b';
    assert!(refused(&bad).contains("checksum"));
    let mut tar = Archive::new();
    tar.pax(&[("size", "999999999999")]);
    tar.file("a", 0o644, b"x");
    assert!(refused(&tar.finish()).contains("ends early"));
    let mut tar = Archive::new();
    tar.pax(&[("uid", "4294967296")]);
    tar.file("a", 0o644, b"x");
    assert!(refused(&tar.finish()).contains("user id"));
    let mut tar = Archive::new();
    tar.huge_extension();
    assert!(refused(&tar.finish()).contains("limit"));
}

#[test]
fn changed_content_is_noticed_when_reproducing() {
    let mut tar = Archive::new();
    tar.file("a", 0o644, b"original");
    let layer = round_trip(&tar.finish());
    std::fs::write(layer.path("a"), "tampered").unwrap();
    let error = layer.replay().unwrap_err();
    assert!(error.to_string().contains("was changed"), "{error}");
}

#[test]
fn sparse_files_of_version_1_keep_their_holes() {
    let mut tar = Archive::new();
    let head = [b'h'; 512];
    tar.sparse_1_0("hole", &[(0, &head), (1 << 20, b"tail")], (1 << 20) + 4);
    let layer = round_trip(&tar.finish());
    let bytes = std::fs::read(layer.path("hole")).unwrap();
    assert_eq!(bytes.len(), (1 << 20) + 4);
    assert!(bytes.starts_with(&head) && bytes.ends_with(b"tail"));
    assert!(bytes[512..1 << 20].iter().all(|&byte| byte == 0));
    assert!(std::fs::metadata(layer.path("hole")).unwrap().blocks() < 1024);
}

/// Random trees of nested directories, links and files of sizes around the block and buffer boundaries.
#[test]
fn random_archives_are_reproduced_bit_for_bit() {
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..5 {
        let mut tar = Archive::new();
        let mut files = Vec::new();
        for index in 0..random(60) {
            let name = format!("d{}/e{}/n{index}", random(4), random(3));
            match random(6) {
                0 => tar.directory(&name, 0o700 + random(64) as u32),
                1 => tar.link(b'2', &name, "../n1"),
                2 if !files.is_empty() => {
                    let target: &String = &files[random(files.len() as u64) as usize];
                    tar.link(b'1', &name, target);
                }
                _ => {
                    let sizes = [0, 1, 511, 512, 513, 4096, 262_143, 262_144, 262_145];
                    let size = sizes[random(sizes.len() as u64) as usize];
                    let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                    tar.file(&name, 0o600 + random(64) as u32, &content);
                    files.push(name);
                }
            }
        }
        round_trip(&tar.finish());
    }
}

#[test]
fn damaged_archives_never_panic() {
    let mut tar = Archive::new();
    tar.directory("d/", 0o755);
    tar.pax(&[("path", "d/long"), ("SCHILY.xattr.user.x", "v")]);
    tar.file("x", 0o644, &[3; 600]);
    tar.sparse_1_0("hole", &[(0, &[b'h'; 512]), (8192, b"tail")], 8196);
    tar.link(b'1', "l", "d/long");
    let good = tar.finish();
    for at in (0..good.len()).step_by(37) {
        for value in [b'9', 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            archive::fix_checksums(&mut bad);
            if let Ok((layer, _)) = Layer::unpack(&bad) {
                assert!(layer.replay().unwrap() == bad, "byte {at} as {value}");
            }
        }
    }
}
