use super::*;

struct Mounted(Overlay, LayerId);

impl Drop for Mounted {
    fn drop(&mut self) {
        self.0.unmount(&self.1).unwrap();
        self.0.shut_down().unwrap();
    }
}

/// A stack of layers, each with a file of its own name, mounted by one interface, is seen whole.
fn stack_of(count: usize, interface: Interface) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("overlay");
    let mut overlay =
        Overlay::open(home.clone(), home, Vec::new(), OverlayOptions::default()).unwrap();
    overlay.interface = interface;
    let mut parent: Option<LayerId> = None;
    for index in 0..count {
        let staged = dir.path().join("staged");
        overlay.prepare(&staged, LayerUse::Image).unwrap();
        fs::write(
            overlay.staged_content(&staged).join(format!("f{index}")),
            "x",
        )
        .unwrap();
        overlay
            .stack(&staged, parent.as_ref(), RootMode::OfParent)
            .unwrap();
        let id = LayerId::generate();
        overlay.install(&staged, &id, LayerUse::Image).unwrap();
        parent = Some(id);
    }
    let top = parent.unwrap();
    overlay.mount(&top, &MountOptions::default()).unwrap();
    let mounted = Mounted(overlay, top);
    let merged = mounted.0.mount_path(&mounted.1);
    assert_eq!(fs::read_dir(&merged).unwrap().count(), count);
    fs::write(merged.join("new"), "y").unwrap();
    let content = mounted.0.content(&mounted.1).unwrap();
    assert!(content.join("new").exists());
}

#[test]
fn a_hundred_and_thirty_layers_by_descriptor() {
    stack_of(131, Interface::Best);
}

#[test]
fn a_hundred_and_thirty_layers_by_the_classic_call() {
    stack_of(131, Interface::Classic);
}

/// A try that failed late leaves its mark, and the next way to mount the layer must not stumble over it.
#[test]
fn a_volatile_layer_can_be_tried_again() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (home, staged) = (dir.path().join("overlay"), dir.path().join("staged"));
    let overlay = Overlay::open(home.clone(), home, Vec::new(), OverlayOptions::default()).unwrap();
    overlay.prepare(&staged, LayerUse::Image).unwrap();
    overlay.stack(&staged, None, RootMode::OfParent).unwrap();
    let id = LayerId::generate();
    overlay.install(&staged, &id, LayerUse::Container).unwrap();
    let options = MountOptions {
        volatility: Volatility::Volatile,
        ..MountOptions::default()
    };
    let mount = overlay.overlay_mount(&id, &options).unwrap();
    let mounted = Mounted(overlay, id);
    for interface in [Interface::Best, Interface::Classic] {
        mount.mount(interface).unwrap();
        mounted.0.unmount(&mounted.1).unwrap();
    }
}

#[test]
fn a_few_layers_by_the_classic_call() {
    stack_of(3, Interface::Classic);
    stack_of(1, Interface::Classic);
}

#[test]
fn lost_links_are_restored_when_mounting() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("overlay");
    let overlay = Overlay::open(
        home.clone(),
        home.clone(),
        Vec::new(),
        OverlayOptions::default(),
    )
    .unwrap();
    let staged = dir.path().join("staged");
    let (base, top) = (LayerId::generate(), LayerId::generate());
    for (id, parent) in [(&base, None), (&top, Some(&base))] {
        overlay.prepare(&staged, LayerUse::Image).unwrap();
        overlay.stack(&staged, parent, RootMode::OfParent).unwrap();
        overlay.install(&staged, id, LayerUse::Image).unwrap();
    }
    fs::remove_dir_all(home.join(LINKS)).unwrap();
    fs::create_dir(home.join(LINKS)).unwrap();
    assert!(!overlay.examine(&top).is_empty());
    overlay.mount(&top, &MountOptions::default()).unwrap();
    let mounted = Mounted(overlay, top.clone());
    assert!(mounted.0.examine(&top).is_empty());
}

/// A user namespace with a mapping, held by a process that waits.
struct Users(std::process::Child);

impl Users {
    /// Ids 0 to 999 inside are 700000 to 700999 outside.
    fn new() -> Option<Self> {
        let held = std::process::Command::new("unshare")
            .args(["--user", "sh", "-c", "echo; exec sleep 600"])
            .stdout(std::process::Stdio::piped())
            .spawn();
        let mut held = match held {
            Ok(child) => Self(child),
            Err(error) => {
                println!("skipped: unshare: {error}");
                return None;
            }
        };
        let mut word = [0];
        std::io::Read::read_exact(held.0.stdout.as_mut().unwrap(), &mut word).unwrap();
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", held.0.id()), "0 700000 1000\n").unwrap();
        }
        Some(held)
    }

    fn ids(&self) -> MountIds {
        let range = crate::IdRange {
            container_id: 0,
            host_id: 700_000,
            size: 1000,
        };
        MountIds {
            namespace: format!("/proc/{}/ns/user", self.0.id()).into(),
            uids: vec![range.clone()],
            gids: vec![range],
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

enum Way {
    Mapped(Interface),
    Chown,
}

/// Owners in a mounted stack are those that the user namespace sees, and the layers below stay as they are.
fn mapped_owners(way: Way) {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let Some(users) = Users::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("overlay");
    let mut overlay =
        Overlay::open(home.clone(), home, Vec::new(), OverlayOptions::default()).unwrap();
    let ids = users.ids();
    let mut parent: Option<LayerId> = None;
    for index in 0..3 {
        let staged = dir.path().join("staged");
        overlay.prepare(&staged, LayerUse::Image).unwrap();
        let file = overlay.staged_content(&staged).join(format!("f{index}"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::chown(&file, Some(index), Some(5)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
        overlay
            .stack(&staged, parent.as_ref(), RootMode::OfParent)
            .unwrap();
        if index == 2 {
            overlay.own_root(&staged, parent.as_ref(), &ids).unwrap();
            fs::remove_file(&file).unwrap();
        }
        let id = LayerId::generate();
        overlay.install(&staged, &id, LayerUse::Image).unwrap();
        parent = Some(id);
    }
    let top = parent.unwrap();
    match way {
        Way::Mapped(interface) => {
            overlay.interface = interface;
            let options = MountOptions {
                ids: Some(ids),
                ..MountOptions::default()
            };
            overlay.mount(&top, &options).unwrap();
        }
        Way::Chown => {
            overlay.private_home.ensure().unwrap();
            let mount = overlay
                .overlay_mount(&top, &MountOptions::default())
                .unwrap();
            chown::mount_and_chown(&mount, &ids, Interface::Best).unwrap();
        }
    }
    let mounted = Mounted(overlay, top);
    let merged = mounted.0.mount_path(&mounted.1);
    let look = |name: &str| {
        let status = fs::metadata(merged.join(name)).unwrap();
        (status.uid(), status.gid(), status.mode() & 0o7777)
    };
    assert_eq!((look("").0, look("").1), (700_000, 700_000));
    assert_eq!(look("f0"), (700_000, 700_005, 0o4755));
    assert_eq!(look("f1"), (700_001, 700_005, 0o4755));
    assert_eq!(fs::read_to_string(merged.join("f1")).unwrap(), "x");
    // A write copies a file up with its owner.
    fs::write(merged.join("f1"), "y").unwrap();
    assert_eq!((look("f1").0, look("f1").1), (700_001, 700_005));
}

#[test]
fn mapped_owners_by_descriptor() {
    mapped_owners(Way::Mapped(Interface::Best));
}

#[test]
fn mapped_owners_in_a_namespace_of_its_own() {
    mapped_owners(Way::Mapped(Interface::Classic));
}

#[test]
fn mapped_owners_by_changing_them() {
    mapped_owners(Way::Chown);
}
