//! Images and configurations that try to reach out of the container: each class of known runtime vulnerabilities.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crioxide_sys::reap::Ending;
use serde_json::json;

use crate::bundles::{TestContainer, can_run};

/// A directory of the "host" that an image links to; returns it with what it held before.
fn victim(container: &TestContainer) -> std::path::PathBuf {
    let victim = container.directory.path().join("victim");
    fs::create_dir(&victim).unwrap();
    victim
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn links_of_the_image_lead_nowhere_on_the_host() {
    if !can_run() {
        return;
    }
    // CVE-2026-41579, CVE-2019-18837, CVE-2024-5154.
    for place in ["dev", "etc", "sys", "data"] {
        let mut container = TestContainer::new("echo ran");
        let victim = victim(&container);
        let inside = container.rootfs().join(place);
        fs::remove_dir_all(&inside).unwrap();
        symlink(&victim, &inside).unwrap();
        container.add_mount(
            json!({"destination": "/data/sub/file", "type": "bind", "source": "/etc/hostname",
            "options": ["bind", "ro"]}),
        );
        container
            .add_mount(json!({"destination": "/etc/made", "type": "tmpfs", "source": "tmpfs"}));
        // Either it runs on a directory of its own or it is refused; the host stays as it was.
        if let Ok(outcome) = container.run() {
            assert_eq!(outcome.output, "ran\n", "{place}");
        }
        assert!(names(&victim).is_empty(), "{place}: {:?}", names(&victim));
    }
}

#[test]
fn proc_that_is_a_link_is_refused() {
    if !can_run() {
        return;
    }
    // CVE-2019-19921, CVE-2023-27561: labels and sysctls would be written to a file of the image.
    for target in ["/tmp", "tmp", "/nowhere"] {
        let container = TestContainer::new("true");
        fs::remove_dir(container.rootfs().join("proc")).unwrap();
        symlink(target, container.rootfs().join("proc")).unwrap();
        let error = container
            .create()
            .err()
            .expect("a linked /proc was to be refused");
        assert!(error.contains("not a directory"), "{error}");
    }
}

#[test]
fn working_directory_cannot_come_through_a_descriptor() {
    if !can_run() {
        return;
    }
    // CVE-2024-21626. A descriptor of the host's root is open in the creating process.
    for number in 3..24 {
        let mut container = TestContainer::new("pwd");
        container.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
        let created = container.create_with(|_| {
            let root = fs::File::open("/").unwrap();
            std::mem::forget(root);
        });
        assert!(created.is_err(), "descriptor {number} was a way out");
    }
}

#[test]
fn no_descriptor_leaks_into_the_process() {
    if !can_run() {
        return;
    }
    let container = TestContainer::new("ls /proc/$$/fd; true");
    let waiting = container
        .create_with(|_| {
            // One that was never close-on-exec.
            let root = fs::File::open("/").unwrap();
            crioxide_sys::descriptors::place_at(&root, 77).unwrap();
        })
        .unwrap();
    crioxide_oci_runtime::OciRuntime::start(&container.runtime(), &container.id).unwrap();
    let output = waiting.finish().output;
    let mut numbers: Vec<&str> = output.split_whitespace().collect();
    // The shell's own, if it has one, is above 9.
    numbers.retain(|number| number.parse::<u32>().unwrap() < 10 || *number == "77");
    assert_eq!(numbers, ["0", "1", "2"]);
}

#[test]
fn inheritable_capabilities_stay_empty() {
    if !can_run() {
        return;
    }
    // CVE-2022-29162 and its relatives.
    let container = TestContainer::new("grep -E 'Cap(Inh|Amb|Bnd)|NoNewPrivs' /proc/self/status");
    let output = container.run().unwrap().output;
    assert!(output.contains("CapInh:\t0000000000000000"), "{output}");
    assert!(output.contains("CapAmb:\t0000000000000000"), "{output}");
    assert!(output.contains("CapBnd:\t00000000000005e1"), "{output}");
}

#[test]
fn devices_of_the_image_are_not_trusted() {
    if !can_run() {
        return;
    }
    // CVE-2025-31133, CVE-2026-88264: no fresh /dev, and the image has its own idea of the null device.
    let mut container =
        TestContainer::new("stat -c '%F %t %T' /dev/null; cat /proc/version; cat /dev/null");
    container.set("/linux/maskedPaths", json!(["/proc/version"]));
    let mounts = container.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let secret = container.directory.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    symlink(&secret, container.rootfs().join("dev/null")).unwrap();
    fs::write(container.rootfs().join("dev/zero"), "not zero").unwrap();
    let outcome = container.run().unwrap();
    assert_eq!(outcome.output, "character special file 1 3\n");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret\n");
    assert_eq!(outcome.ending, Ending::Exited(0));
}

#[test]
fn masked_links_hide_nothing_of_the_host() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new("true");
    let victim = victim(&container);
    fs::write(victim.join("kept"), "kept").unwrap();
    symlink(&victim, container.rootfs().join("data/link")).unwrap();
    container.set(
        "/linux/maskedPaths",
        json!(["/data/link", "/data/link/kept"]),
    );
    container.set("/linux/readonlyPaths", json!(["/data/link"]));
    let _ = container.run();
    assert_eq!(fs::read_to_string(victim.join("kept")).unwrap(), "kept");
}
