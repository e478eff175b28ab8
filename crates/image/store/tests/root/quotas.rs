//! Limits of container layers by project quotas. They hold for programs with CAP_SYS_RESOURCE as well, which plain ext4 lets
//! pass: overlayfs writes without it.

use crate::containers::container;
use crate::support::{TestStore, gnu_tar, image};
use crioxide_store::{LayerId, MountOptions, Store, UnmountForce};
use crioxide_sys::project_quota::{self, FileSystem, ProjectLimits};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

const OPTIONS: &[&str] = &["overlay.size=8M", "overlay.inodes=200"];
const LIMITS: ProjectLimits = ProjectLimits {
    bytes: 8 << 20,
    inodes: 200,
};

/// What a shell command in `directory` says on stderr.
fn complaints(directory: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(directory)
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

fn is_out_of_space(message: &str) -> bool {
    ["No space left", "quota exceeded"]
        .iter()
        .any(|known| message.contains(known))
}

fn project(store: &TestStore, layer: &LayerId) -> u32 {
    let layer = File::open(store.layer_directory("graph", layer.as_str())).unwrap();
    project_quota::project_of(layer).unwrap()
}

/// A mounted container on an image with a file of 4 MiB.
fn mounted(store: &Store, name: &str, top: &str) -> (String, LayerId, std::path::PathBuf) {
    let made = container(store, name, Some(top));
    let layer = LayerId::parse(&made.layer).unwrap();
    let merged = store.mount(&layer, &MountOptions::default()).unwrap();
    (made.id.clone(), layer, merged)
}

fn a_container_cannot_take_more_than_its_share(file_system: &str) {
    let Some(mut store) = TestStore::with(file_system, "overlay", OPTIONS) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("big"), vec![7; 4 << 20]).unwrap();
    let tar = gnu_tar(directory.path(), &["--format=posix"]).unwrap();
    let id = image(&store, "example.org/big:1", &[&tar]);
    let top = store.image(id.as_str()).unwrap().unwrap().layer.clone();
    let (greedy, greedy_layer, merged) = mounted(&store, "greedy", &top);

    let fill = "dd if=/dev/zero of=much bs=1M count=16 conv=fsync status=none";
    let message = complaints(&merged, fill);
    assert!(is_out_of_space(&message), "{message}");
    let taken = std::fs::metadata(merged.join("much")).unwrap().len();
    // What it has from its image does not count.
    assert!((6 << 20..=LIMITS.bytes).contains(&taken), "{taken}");
    let usage = store.layer_usage(&greedy_layer).unwrap();
    assert!((6 << 20..=LIMITS.bytes).contains(&usage.bytes), "{usage:?}");
    std::fs::remove_file(merged.join("much")).unwrap();
    let message = complaints(
        &merged,
        "i=0; while [ $i -lt 300 ]; do : >f$i; i=$((i+1)); done",
    );
    assert!(is_out_of_space(&message), "{message}");
    let inodes = store.layer_usage(&greedy_layer).unwrap().inodes;
    assert_eq!(inodes, LIMITS.inodes);

    // Nobody else is limited by it.
    let (modest, modest_layer, other) = mounted(&store, "modest", &top);
    assert_eq!(
        complaints(&other, "dd if=/dev/zero of=few bs=1M count=4 status=none"),
        ""
    );
    let projects = [&greedy_layer, &modest_layer].map(|layer| project(&store, layer));
    assert!(
        projects[0] != projects[1] && !projects.contains(&0),
        "{projects:?}"
    );
    let image_layer = LayerId::parse(&top).unwrap();
    assert_eq!(project(&store, &image_layer), 0);

    // The limits outlive the process.
    store.reopen();
    let message = complaints(&merged, ": >one-more");
    assert!(is_out_of_space(&message), "{message}");

    // What is deleted gives its number and its limits back.
    let home = File::open(store.path("graph/overlay")).unwrap();
    for (id, layer) in [(greedy, greedy_layer), (modest, modest_layer)] {
        store.unmount(&layer, UnmountForce::All).unwrap();
        store.delete_container(&id).unwrap();
    }
    store.reopen();
    for number in projects {
        let usage = project_quota::usage(FileSystem::Of(home.as_fd()), number).unwrap();
        assert_eq!(usage, Default::default(), "{number}");
    }
    let (_, layer, _) = mounted(&store, "next", &top);
    assert_eq!(project(&store, &layer), projects[0]);
    let usage = project_quota::usage(FileSystem::Of(home.as_fd()), projects[0]).unwrap();
    assert_eq!(usage.limits, LIMITS);

    // Old kernels are told the device.
    let node = store.path("node");
    let device = std::os::unix::fs::MetadataExt::dev(&home.metadata().unwrap());
    let (kind, mode) = (rustix::fs::FileType::BlockDevice, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, device).unwrap();
    let node = std::ffi::CString::new(node.to_str().unwrap()).unwrap();
    let by_device = project_quota::usage(FileSystem::On(&node), projects[0]).unwrap();
    assert_eq!(by_device, usage);
}

#[test]
fn a_container_cannot_take_more_than_its_share_of_xfs() {
    a_container_cannot_take_more_than_its_share("xfs+quotas");
}

#[test]
fn a_container_cannot_take_more_than_its_share_of_ext4() {
    a_container_cannot_take_more_than_its_share("ext4+quotas");
}

#[test]
fn where_projects_have_no_quotas_limits_are_refused() {
    for file_system in ["xfs", "ext4", "btrfs"] {
        let Some(unlimited) = TestStore::on(file_system, "overlay") else {
            continue;
        };
        let options = crioxide_store::StoreOptions {
            graph_root: unlimited.path("limited"),
            run_root: unlimited.path("limited-run"),
            driver: "overlay".into(),
            driver_options: vec!["overlay.size=8M".into()],
            ..Default::default()
        };
        let error = Store::open(options).unwrap_err().to_string();
        assert!(error.contains("project"), "{error}");
        assert!(error.contains("limited/overlay"), "{error}");
    }
}
