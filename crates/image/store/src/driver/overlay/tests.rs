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
        overlay.prepare(&staged).unwrap();
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
        overlay.prepare(&staged).unwrap();
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
