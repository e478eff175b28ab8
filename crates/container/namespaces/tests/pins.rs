//! Real namespaces on the real host. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers end it like its own lines"
)]

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use crioxide_namespaces::{
    Kind, NamespaceRequest, create_pinned, pin_existing, pin_path, remove_pinned,
};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn mounts_below(dir: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| line.contains(dir.to_str().unwrap()))
        .count()
}

#[test]
fn made_set_up_and_removed() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let request = NamespaceRequest {
        net: true,
        ipc: true,
        uts: true,
        hostname: Some("pod-1".into()),
        sysctls: vec![
            ("net.ipv4.ip_unprivileged_port_start".into(), "80".into()),
            ("kernel.shm_rmid_forced".into(), "1".into()),
        ],
        ..Default::default()
    };
    let host_port = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let pinned = create_pinned(dir.path(), "a", &request).unwrap();
    for (path, own) in [
        (&pinned.net, "net"),
        (&pinned.ipc, "ipc"),
        (&pinned.uts, "uts"),
    ] {
        assert_ne!(
            inode(path.as_ref().unwrap()),
            inode(Path::new("/proc/self/ns").join(own))
        );
    }
    assert_eq!(
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(),
        host_port
    );
    let seen = std::process::Command::new("nsenter")
        .arg(format!("--net={}", pinned.net.as_ref().unwrap().display()))
        .arg(format!("--uts={}", pinned.uts.as_ref().unwrap().display()))
        .args([
            "sh",
            "-c",
            "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "pod-1\n80\n");
    assert_eq!(mounts_below(dir.path()), 3);
    remove_pinned(dir.path(), "a").unwrap();
    assert_eq!(mounts_below(dir.path()), 0);
    assert!(!pin_path(dir.path(), Kind::Net, "a").exists());
}

#[test]
fn a_network_namespace_made_ahead_is_taken() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let alone = NamespaceRequest {
        net: true,
        ..Default::default()
    };
    let ahead = create_pinned(dir.path(), "ahead", &alone)
        .unwrap()
        .net
        .unwrap();
    let request = NamespaceRequest {
        ipc: true,
        spare_net: Some(Arc::new(fs::File::open(&ahead).unwrap().into())),
        ..alone
    };
    let pinned = create_pinned(dir.path(), "a", &request).unwrap();
    assert_eq!(inode(pinned.net.unwrap()), inode(&ahead));
    assert_ne!(inode(pinned.ipc.unwrap()), inode("/proc/self/ns/ipc"));
    for name in ["a", "ahead"] {
        remove_pinned(dir.path(), name).unwrap();
    }
}

#[test]
fn a_failure_leaves_nothing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let request = NamespaceRequest {
        net: true,
        ipc: true,
        sysctls: vec![("net.ipv4.no_such_thing".into(), "1".into())],
        ..Default::default()
    };
    let error = create_pinned(dir.path(), "a", &request).unwrap_err();
    assert!(
        error.to_string().contains("net.ipv4.no_such_thing"),
        "{error}"
    );
    assert_eq!(mounts_below(dir.path()), 0);
    fs::create_dir_all(dir.path().join("ipcns")).unwrap();
    fs::write(pin_path(dir.path(), Kind::Ipc, "b"), "").unwrap();
    create_pinned(
        dir.path(),
        "b",
        &NamespaceRequest {
            net: true,
            ipc: true,
            ..Default::default()
        },
    )
    .unwrap_err();
    assert_eq!(mounts_below(dir.path()), 0);
}

#[test]
fn a_taken_name_stays_with_its_owner() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let owner = create_pinned(
        dir.path(),
        "a",
        &NamespaceRequest {
            ipc: true,
            ..Default::default()
        },
    )
    .unwrap();
    let (ipc, both) = (
        owner.ipc.unwrap(),
        NamespaceRequest {
            net: true,
            ipc: true,
            ..Default::default()
        },
    );
    let before = inode(&ipc);
    create_pinned(dir.path(), "a", &both).unwrap_err();
    assert_eq!(inode(&ipc), before);
    // The second call's network namespace, made before it met the owner's pin, is gone.
    assert!(!pin_path(dir.path(), Kind::Net, "a").exists());
    assert_eq!(mounts_below(dir.path()), 1);
    remove_pinned(dir.path(), "a").unwrap();
}

#[test]
fn the_hosts_namespace_can_be_pinned() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = pin_existing(
        dir.path(),
        "host",
        Kind::Net,
        Path::new("/proc/self/ns/net"),
    )
    .unwrap();
    assert_eq!(inode(&path), inode("/proc/self/ns/net"));
    remove_pinned(dir.path(), "host").unwrap();
}
