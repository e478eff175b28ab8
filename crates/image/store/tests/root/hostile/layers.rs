//! Layers that lie in wait for those above them, or for what they lie on.

use super::archive::{Header, Tar};
use super::chain;
use crate::support::{TestStore, layer};
use crate::tree::tree;
use crioxide_store::MountOptions;

/// Each stack of layers, mounted: the names in it, or the error of one that is refused.
pub(crate) fn layers_cannot_reach_through_those_below(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let outside = store.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let untouched = tree(&outside);
    for (name, stack, wanted) in cases(outside.to_str().unwrap()) {
        let found = merged(&store, &stack);
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

fn merged(store: &TestStore, stack: &[Vec<u8>]) -> Result<Vec<String>, String> {
    let mut ids = Vec::new();
    for tar in stack {
        if let Err(error) = store.stage_layer().unwrap().unpack(&tar[..]) {
            return Err(chain(&error));
        }
        ids.push(layer(store, ids.last(), tar));
    }
    let top = ids.last().unwrap();
    let root = store
        .mount(top, &MountOptions::default())
        .map_err(|error| chain(&error))?;
    let names = tree(&root)
        .into_keys()
        .filter(|name| !name.is_empty())
        .collect();
    store
        .unmount(top, crioxide_store::UnmountForce::All)
        .map_err(|error| chain(&error))?;
    for id in ids.iter().rev() {
        store.delete_layer(id).map_err(|error| chain(&error))?;
    }
    Ok(names)
}
