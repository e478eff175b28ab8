//! podman, buildah and skopeo on the store that we write, and we on what they wrote.

use crate::support::{TestStore, busybox_tar, gnu_tar, image, sha256, stdout};
use crioxide_store::{CheckDepth, LayerId};
use std::io::Read;
use std::process::Output;

const NAME: &str = "example.org/busybox:1";

/// A second layer with a file and a deletion.
fn top_tar() -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("message"), "from the top layer\n").unwrap();
    std::fs::write(dir.path().join(".wh.var"), "").unwrap();
    gnu_tar(dir.path(), &["--format=posix"])
}

fn with_image(driver: &str) -> Option<(TestStore, String, Vec<Vec<u8>>)> {
    let store = TestStore::new(driver)?;
    let tars = vec![busybox_tar()?, top_tar()?];
    let id = image(&store, NAME, &[&tars[0], &tars[1]]);
    Some((store, id.as_str().to_owned(), tars))
}

pub(crate) fn podman_lists_inspects_and_runs_our_image(driver: &str) {
    let Some((store, id, _)) = with_image(driver) else {
        return;
    };
    let Some(listed) = store.tool(
        "podman",
        &[
            "images",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Repository}}:{{.Tag}}",
        ],
    ) else {
        return;
    };
    assert_eq!(stdout(listed).trim(), format!("sha256:{id} {NAME}"));
    let digest = store.image(&id).unwrap().unwrap().digest.clone();
    let by_digest = format!("example.org/busybox@{digest}");
    let found = store
        .tool(
            "podman",
            &["image", "inspect", "--format", "{{.Id}}", &by_digest],
        )
        .unwrap();
    assert_eq!(stdout(found).trim(), id);
    // Where limits cannot be raised, podman's own defaults are too high.
    let run = [
        "--runtime=runc",
        "--cgroup-manager=cgroupfs",
        "--events-backend=none",
        "run",
        "--rm",
        "--network=none",
        "--cgroup-parent=/",
        "--ulimit=nofile=1000:1000",
        "--ulimit=nproc=1000:1000",
    ];
    let command = [
        &run[..],
        &[
            NAME,
            "/bin/sh",
            "-c",
            "cat /message; test ! -e /var; echo x > /new",
        ],
    ]
    .concat();
    let ran = store.tool("podman", &command).unwrap();
    if cannot_run_here(&ran) {
        println!(
            "skipped: podman cannot run containers here: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    } else {
        assert_eq!(stdout(ran), "from the top layer\n");
    }
    assert!(store.containers().unwrap().is_empty());
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
    stdout(store.tool("podman", &["rmi", NAME]).unwrap());
    assert!(store.images().unwrap().is_empty() && store.layers().unwrap().is_empty());
}

/// Whether the failure is the machine's: resource limits or namespaces that it does not grant.
fn cannot_run_here(output: &Output) -> bool {
    let errors = String::from_utf8_lossy(&output.stderr);
    let reasons = [
        "rlimit",
        "RLIMIT",
        "not permitted",
        "oom_score_adj",
        "cgroup",
    ];
    !output.status.success() && reasons.iter().any(|reason| errors.contains(reason))
}

pub(crate) fn skopeo_copies_our_layers_out_bit_for_bit(driver: &str) {
    let Some((store, _, tars)) = with_image(driver) else {
        return;
    };
    let out = store.path("out");
    let source = format!(
        "containers-storage:[{driver}@{}+{}]{NAME}",
        store.path("graph").display(),
        store.path("run").display()
    );
    let target = format!("dir:{}", out.display());
    let arguments = ["--insecure-policy", "copy", &source, &target];
    let Some(copied) = store.tool("skopeo", &arguments) else {
        return;
    };
    stdout(copied);
    for tar in &tars {
        let blob = std::fs::read(out.join(sha256(tar).hex())).unwrap();
        assert!(blob == *tar, "a layer was changed on the way");
    }
}

pub(crate) fn we_read_and_use_what_skopeo_and_buildah_wrote(driver: &str) {
    let Some((first, _, tars)) = with_image(driver) else {
        return;
    };
    let Some(second) = TestStore::new(driver) else {
        return;
    };
    let place = |store: &TestStore, name: &str| {
        let (graph, run) = (store.path("graph"), store.path("run"));
        format!(
            "containers-storage:[{driver}@{}+{}]{name}",
            graph.display(),
            run.display()
        )
    };
    let (from, to) = (place(&first, NAME), place(&second, "example.org/copy:1"));
    let Some(copied) = first.tool("skopeo", &["--insecure-policy", "copy", &from, &to]) else {
        return;
    };
    stdout(copied);
    let copy = second.image("example.org/copy:1").unwrap().unwrap();
    let mut layer = LayerId::parse(&copy.layer).unwrap();
    for tar in tars.iter().rev() {
        let mut bytes = Vec::new();
        second
            .layer_tar(&layer)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert!(bytes == *tar, "a layer differs");
        let record = second.layer(&layer).unwrap().unwrap();
        if !record.parent.is_empty() {
            layer = LayerId::parse(&record.parent).unwrap();
        }
    }
    // The ids agree, so that neither stores what the other has.
    assert_eq!(copy.layer, first.image(NAME).unwrap().unwrap().layer);

    let made = crate::containers::durable_container(&second, "ours", &copy.layer);
    let merged = second
        .mount(&LayerId::parse(&made.layer).unwrap(), &Default::default())
        .unwrap();
    assert!(merged.join("message").exists() && !merged.join("var").exists());
    let Some(theirs) = second.tool(
        "buildah",
        &["from", "--name", "theirs", "example.org/copy:1"],
    ) else {
        return;
    };
    stdout(theirs);
    let record = second.container("theirs").unwrap().unwrap();
    assert_eq!(record.image, copy.id);
    stdout(
        second
            .tool("buildah", &["commit", "theirs", "example.org/committed:1"])
            .unwrap(),
    );
    assert!(second.image("example.org/committed:1").unwrap().is_some());
    stdout(second.tool("buildah", &["rm", "theirs"]).unwrap());
    assert!(second.container("theirs").unwrap().is_none());
    assert!(second.container("ours").unwrap().is_some() && merged.join("message").exists());
    assert!(second.check(CheckDepth::Digests).unwrap().is_empty());
}

pub(crate) fn both_write_at_the_same_time_and_nothing_is_lost(driver: &str) {
    let Some((store, _, _)) = with_image(driver) else {
        return;
    };
    if store.tool("buildah", &["images"]).is_none() {
        return;
    }
    let top = store.image(NAME).unwrap().unwrap().layer.clone();
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            for round in 0..4 {
                let name = format!("theirs-{round}");
                stdout(
                    store
                        .tool("buildah", &["from", "--name", &name, NAME])
                        .unwrap(),
                );
                stdout(store.tool("buildah", &["mount", &name]).unwrap());
                if round % 2 == 0 {
                    stdout(store.tool("buildah", &["rm", &name]).unwrap());
                }
            }
        });
        let store = &store;
        let top = &top;
        scope.spawn(move || {
            let mut round = 0;
            while !theirs.is_finished() {
                let made =
                    crate::containers::durable_container(store, &format!("ours-{round}"), top);
                let layer = LayerId::parse(&made.layer).unwrap();
                let merged = store.mount(&layer, &Default::default()).unwrap();
                assert!(merged.join("message").exists());
                let tag = format!("example.org/tag:{round}");
                let image = store.image(NAME).unwrap().unwrap();
                store
                    .add_names(&image.id, std::slice::from_ref(&tag))
                    .unwrap();
                store.remove_name(&image.id, &tag).unwrap();
                store.delete_container(&made.id).unwrap();
                round += 1;
            }
        });
    });
    let mut names: Vec<_> = store
        .containers()
        .unwrap()
        .iter()
        .flat_map(|container| container.names.clone())
        .collect();
    names.sort();
    assert_eq!(names, ["theirs-1", "theirs-3"]);
    assert_eq!(store.layers().unwrap().len(), 4);
    assert!(store.check(CheckDepth::Digests).unwrap().is_empty());
    let listed = stdout(
        store
            .tool("buildah", &["containers", "--format", "{{.ContainerName}}"])
            .unwrap(),
    );
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["theirs-1", "theirs-3"]);
}
