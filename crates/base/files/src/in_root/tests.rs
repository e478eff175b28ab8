use super::*;
use std::os::unix::fs::symlink;

fn tree() -> (tempfile::TempDir, InRoot) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
    std::fs::write(dir.path().join("secret"), "host").unwrap();
    let root = InRoot::open(dir.path().join("root")).unwrap();
    (dir, root)
}

#[test]
fn neither_dots_nor_symlinks_leave_the_root() {
    let (dir, root) = tree();
    symlink(
        dir.path().join("secret"),
        dir.path().join("root/etc/absolute"),
    )
    .unwrap();
    symlink("../../secret", dir.path().join("root/etc/relative")).unwrap();
    for path in [
        "../secret",
        "etc/../../secret",
        "etc/absolute",
        "etc/relative",
        "/../secret",
    ] {
        assert!(
            root.read_limited(path, 100).unwrap_err().is_not_found(),
            "{path}"
        );
    }
    std::fs::write(dir.path().join("root/secret"), "inside").unwrap();
    assert_eq!(root.read_limited("etc/relative", 100).unwrap(), b"inside");
}

#[test]
fn a_written_file_lands_inside_even_through_a_symlinked_directory() {
    let (dir, root) = tree();
    symlink("/outside", dir.path().join("root/var")).unwrap();
    root.mkdir_all("outside", 0o755).unwrap();
    root.write_file("var/passwd", b"x", 0o644).unwrap();
    assert_eq!(
        std::fs::read(dir.path().join("root/outside/passwd")).unwrap(),
        b"x"
    );
    assert!(root.create_new_file("var/passwd", 0o644).is_err());
}

#[test]
fn mkdir_all_makes_what_is_missing_and_refuses_a_dangling_link() {
    let (dir, root) = tree();
    root.mkdir_all("/a/b/../c/d", 0o755).unwrap();
    assert!(dir.path().join("root/a/b").is_dir() && dir.path().join("root/a/c/d").is_dir());
    root.mkdir_all("../../x", 0o755).unwrap();
    assert!(dir.path().join("root/x").is_dir() && !dir.path().join("x").exists());
    symlink("nowhere", dir.path().join("root/dangling")).unwrap();
    let error = root.mkdir_all("dangling/y", 0o755).unwrap_err();
    assert!(error.to_string().contains("dangling"), "{error}");
}

#[test]
fn reading_refuses_pipes_and_too_much() {
    let (dir, root) = tree();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("root/pipe"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(root.read_limited("pipe", 10).is_err());
    root.write_file("big", &[0; 11], 0o600).unwrap();
    assert!(root.read_limited("big", 10).is_err());
    assert_eq!(root.read_limited("big", 11).unwrap().len(), 11);
}
