//! Archives of the tools that make images, compared with the trees they were made of.

use crate::support::{TestStore, gnu_tar, layer};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// A tree with one of everything.
fn tree(root: &Path, time_digits: usize) {
    use std::fs;
    let long = root.join("l".repeat(120)).join("m".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("file"), "deep").unwrap();
    fs::write(root.join("setuid"), "s").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("big"), vec![0x5a; 1_000_001]).unwrap();
    fs::hard_link(root.join("big"), root.join("hard")).unwrap();
    symlink("n".repeat(180), root.join("long-symlink")).unwrap();
    fs::create_dir(root.join("group")).unwrap();
    fs::write(root.join("group/file"), "g").unwrap();
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(
            CWD,
            root.join(name),
            kind,
            Mode::from_raw_mode(0o600),
            device,
        )
        .unwrap();
    };
    node("fifo", FileType::Fifo, 0);
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("block", FileType::BlockDevice, rustix::fs::makedev(7, 300));
    for (name, id) in [("setuid", 1000), ("group", 2000), ("long-symlink", 70_000)] {
        std::os::unix::fs::lchown(root.join(name), Some(id), Some(id + 1)).unwrap();
    }
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(root.join("group"), fs::Permissions::from_mode(0o3777)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o002)).unwrap();
    let fraction = &".123456789"[..if time_digits == 0 { 0 } else { time_digits + 1 }];
    let touch = Command::new("find")
        .arg(root)
        .args([
            "-exec",
            "touch",
            "-h",
            "-d",
            &format!("2001-02-03 04:05:06{fraction} UTC"),
            "{}",
            "+",
        ])
        .status();
    assert!(touch.unwrap().success());
}

fn round_trip(store: &TestStore, tar: &[u8]) -> crioxide_store::LayerContent {
    let id = layer(store, None, tar);
    let mut replayed = Vec::new();
    store
        .layer_tar(&id)
        .unwrap()
        .read_to_end(&mut replayed)
        .unwrap();
    assert!(replayed == tar, "the reproduced tar differs");
    store.layer_content(&id).unwrap()
}

pub(crate) fn trees_survive_every_format_of_gnu_tar(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    for (format, digits) in [("gnu", 0), ("posix", 9), ("oldgnu", 0)] {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), digits);
        let Some(tar) = gnu_tar(dir.path(), &["--format", format, "--numeric-owner"]) else {
            return;
        };
        let content = round_trip(&store, &tar);
        assert_eq!(
            crate::tree::tree(&content),
            crate::tree::tree(dir.path()),
            "{format}"
        );
    }
}

pub(crate) fn sparse_files_survive_every_version(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("sparse")).unwrap();
    for index in 0..60 {
        std::os::unix::fs::FileExt::write_all_at(
            &file,
            &[index + 1; 4096],
            u64::from(index) * 262_144,
        )
        .unwrap();
    }
    file.set_len(20 << 20).unwrap();
    let ways: [&[&str]; 5] = [
        &["--format=gnu", "-S"],
        &["--format=oldgnu", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ];
    for options in ways {
        let Some(tar) = gnu_tar(dir.path(), options) else {
            return;
        };
        assert!(tar.len() < 2 << 20, "{options:?} made no sparse archive");
        let content = round_trip(&store, &tar);
        let (ours, theirs) = (content.join("sparse"), dir.path().join("sparse"));
        assert!(
            std::fs::read(&ours).unwrap() == std::fs::read(theirs).unwrap(),
            "{options:?}"
        );
        assert!(
            std::fs::metadata(&ours).unwrap().blocks() < 4096,
            "{options:?} filled the holes"
        );
    }
}

pub(crate) fn extended_attributes_and_capabilities_are_kept(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (file, owned) = (dir.path().join("file"), dir.path().join("owned"));
    // Version 2 of file capabilities with cap_net_bind_service, permitted and effective.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for path in [&file, &owned] {
        std::fs::write(path, "x").unwrap();
        std::os::unix::fs::chown(path, Some(if *path == owned { 1000 } else { 0 }), None).unwrap();
        rustix::fs::setxattr(
            path,
            "security.capability",
            &capability,
            XattrFlags::empty(),
        )
        .unwrap();
    }
    rustix::fs::setxattr(&file, "user.note", b"with \0 and \n", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(
        &file,
        "trusted.overlay.redirect",
        b"/etc",
        XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(dir.path(), "user.note", b"root", XattrFlags::empty()).unwrap();
    let options = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    let Some(tar) = gnu_tar(dir.path(), &options) else {
        return;
    };
    let content = round_trip(&store, &tar);
    assert_eq!(crate::tree::tree(&content), crate::tree::tree(dir.path()));
    let mut value = [0; 64];
    for name in ["file", "owned"] {
        let count =
            rustix::fs::getxattr(content.join(name), "security.capability", &mut value).unwrap();
        assert_eq!(value[..count], capability, "{name}");
    }
    assert!(
        rustix::fs::getxattr(content.join("file"), "trusted.overlay.redirect", &mut value).is_err()
    );
}

const PYTHON: &str = r#"
import io, sys, tarfile
out = io.BytesIO()
tar = tarfile.open(fileobj=out, mode="w", format=getattr(tarfile, sys.argv[1]))
def add(name, kind=tarfile.REGTYPE, data=b"", **more):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))
add("dir", tarfile.DIRTYPE, mode=0o755)
add("dir/kept", data=b"kept")
add("dir/.wh.gone")
add("fresh", tarfile.DIRTYPE, mode=0o755)
add("fresh/.wh..wh..opq")
add("fresh/new", data=b"new")
add(".wh.swapped")
add("swapped", tarfile.DIRTYPE, mode=0o755)
add("swapped/inside", data=b"inside")
add("stays", tarfile.DIRTYPE, mode=0o755)
add("stays/mine", data=b"mine")
add(".wh.stays", uid=4711)
add("p" * 60 + "/" + "q" * 90, data=b"prefix")
tar.close()
sys.stdout.buffer.write(out.getvalue())
"#;

pub(crate) fn whiteouts_hide_what_is_below(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let below = tempfile::tempdir().unwrap();
    for path in [
        "dir/gone/x",
        "fresh/old",
        "swapped/old",
        "stays/old",
        "other",
    ] {
        std::fs::create_dir_all(below.path().join(path)).unwrap();
    }
    let Some(base) = gnu_tar(below.path(), &["--format=posix"]) else {
        return;
    };
    let base = layer(&store, None, &base);
    for format in ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"] {
        let Ok(python) = Command::new("python3")
            .args(["-c", PYTHON, format])
            .output()
        else {
            println!("skipped: python3 is not installed");
            return;
        };
        let tar = crate::support::stdout_bytes(python);
        let top = layer(&store, Some(&base), &tar);
        assert_eq!(store.layer(&top).unwrap().unwrap().uids, [0]);
        let content = store.layer_content(&top).unwrap();
        let hidden = std::fs::symlink_metadata(content.join("dir/gone"));
        match driver {
            "vfs" | "btrfs" | "devicemapper" => assert!(hidden.is_err()),
            _ => {
                let hidden = hidden.unwrap();
                assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
            }
        }
        let merged = store.mount(&top, &Default::default()).unwrap();
        let list = |path: &str| {
            let entries = std::fs::read_dir(merged.join(path)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(list("dir"), ["kept"]);
        assert_eq!(list("fresh"), ["new"]);
        assert_eq!(list("swapped"), ["inside"]);
        assert_eq!(list("stays"), ["mine"]);
        assert_eq!(list("other").len(), 0);
        store
            .unmount(&top, crioxide_store::UnmountForce::All)
            .unwrap();
        let mut replayed = Vec::new();
        store
            .layer_tar(&top)
            .unwrap()
            .read_to_end(&mut replayed)
            .unwrap();
        assert!(replayed == tar, "the reproduced tar differs");
    }
}
