//! Layers that lie in wait for those above them, or for what they lie on.

use super::archive::{Header, Tar};
use super::chain;
use crate::support::TestStore;
use crate::tree::tree;
use crioxide_store::{LayerId, LayerStaging, MountOptions, NewLayer, UnmountForce};

/// Each stack of layers, mounted: the names in it, or the error of one that is refused.
pub(crate) fn layers_cannot_reach_through_those_below(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let outside = store.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let untouched = tree(&outside);
    let (mut filled, mut stacks) = (Vec::new(), Vec::new());
    for (name, stack, wanted) in cases(outside.to_str().unwrap()) {
        stacks.push((name, fill(&store, &stack, &mut filled), wanted));
    }
    // At once: each time costs a flush or two.
    store.commit_layers(filled).unwrap();
    for (name, top, wanted) in stacks {
        let found = top.and_then(|top| merged(&store, &top));
        assert_eq!(tree(&outside), untouched, "{name}: wrote outside");
        let found = found.unwrap_or_else(|error| vec![error]);
        let holds = match wanted {
            [error] if error.contains(' ') => found[0].contains(error),
            names => found == names,
        };
        assert!(holds, "{name}: {found:?}");
    }
}

type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases(outside: &str) -> Vec<Case> {
    let tar = Tar::default;
    let base = || {
        tar()
            .directory("d/")
            .file("d/a", "1")
            .file("d/b", "2")
            .end()
    };
    vec![
        (
            "a file behind a link of the layer below",
            vec![
                tar().symlink("escape", outside).end(),
                tar().file("escape/evil", "x").end(),
            ],
            &["escape", "escape/evil"],
        ),
        (
            "a hard link to the layer below",
            vec![base(), tar().hard("stolen", "d/a").end()],
            &["open directory"],
        ),
        (
            "a hard link through a link of the layer below",
            vec![
                tar().symlink("escape", outside).end(),
                tar().hard("stolen", "escape/secret").end(),
            ],
            &["open directory"],
        ),
        (
            "a deletion through a link of the layer below",
            vec![
                tar().symlink("escape", outside).end(),
                tar().file("escape/.wh.secret", "").end(),
            ],
            &["escape"],
        ),
        (
            "an opaque directory over a link of the layer below",
            vec![
                tar().symlink("escape", outside).end(),
                tar().file("escape/.wh..wh..opq", "").end(),
            ],
            &["escape"],
        ),
        (
            "a deletion",
            vec![base(), tar().file("d/.wh.a", "").end()],
            &["d", "d/b"],
        ),
        (
            "a deletion of what the layer itself brings",
            vec![
                base(),
                tar()
                    .directory("d/")
                    .file("d/a", "new")
                    .file("d/.wh.a", "")
                    .end(),
            ],
            &["d", "d/a", "d/b"],
        ),
        (
            "a deletion of what comes after it",
            vec![base(), tar().file("d/.wh.a", "").file("d/a", "new").end()],
            &["d", "d/a", "d/b"],
        ),
        (
            "a device that looks like a deletion",
            vec![
                base(),
                tar()
                    .directory("d/")
                    .add(Header::new(b'3', "d/a"), b"")
                    .end(),
            ],
            &["d", "d/b"],
        ),
        (
            "an opaque directory",
            vec![
                base(),
                tar()
                    .directory("d/")
                    .file("d/c", "3")
                    .file("d/.wh..wh..opq", "")
                    .end(),
            ],
            &["d", "d/c"],
        ),
        (
            "a deletion of the directory itself",
            vec![base(), tar().file("d/.wh..", "").end()],
            &["archive entry `d/.wh..`"],
        ),
        (
            "a deletion of the directory above",
            vec![base(), tar().file("d/.wh...", "").end()],
            &["archive entry `d/.wh...`"],
        ),
        (
            "a deletion of nothing",
            vec![base(), tar().file("d/.wh.", "").end()],
            &["archive entry `d/.wh.`"],
        ),
        (
            "a deletion with content",
            vec![base(), tar().file("d/.wh.a", "x").end()],
            &["archive entry `d/.wh.a`"],
        ),
        (
            "a deletion by a link",
            vec![base(), tar().symlink("d/.wh.a", outside).end()],
            &["d", "d/b"],
        ),
        (
            "an attribute that hides a directory",
            vec![
                base(),
                tar()
                    .pax(&[("SCHILY.xattr.trusted.overlay.opaque", "y")])
                    .directory("d/")
                    .end(),
            ],
            &["d", "d/a", "d/b"],
        ),
        (
            "an attribute that redirects a directory",
            vec![
                base(),
                tar()
                    .pax(&[("SCHILY.xattr.trusted.overlay.redirect", "/d")])
                    .directory("e/")
                    .end(),
            ],
            &["d", "d/a", "d/b", "e"],
        ),
        (
            "a file in place of a directory, and a directory again",
            vec![
                base(),
                tar().file("d", "x").end(),
                tar().directory("d/").file("d/c", "x").end(),
            ],
            &["d", "d/c"],
        ),
        (
            "a terabyte of holes below",
            vec![
                tar()
                    .sparse("holes", 1 << 40, "2\n4096\n4\n1099511627776\n0\n", b"data")
                    .end(),
                tar().file("f", "x").end(),
            ],
            &["f", "holes"],
        ),
    ]
}

/// Unpacks a stack, to be committed with others; the id of the top layer.
fn fill(
    store: &TestStore,
    stack: &[Vec<u8>],
    into: &mut Vec<(LayerStaging, NewLayer)>,
) -> Result<LayerId, String> {
    let mut top: Option<LayerId> = None;
    for tar in stack {
        let mut staging = store.stage_layer().unwrap();
        let summary = staging.unpack(&tar[..]).map_err(|error| chain(&error))?;
        let id = LayerId::of_content(top.as_ref(), &summary.diff_id);
        let new = NewLayer::unpacked(id.clone(), top.take(), summary);
        into.push((staging, new));
        top = Some(id);
    }
    Ok(top.unwrap())
}

fn merged(store: &TestStore, top: &LayerId) -> Result<Vec<String>, String> {
    let root = store
        .mount(top, &MountOptions::default())
        .map_err(|error| chain(&error))?;
    let names = tree(&root)
        .into_keys()
        .filter(|name| !name.is_empty())
        .collect();
    store
        .unmount(top, UnmountForce::All)
        .map_err(|error| chain(&error))?;
    Ok(names)
}
