//! Layers made to do harm. None writes outside of its own directory, and what is accepted is what GNU tar makes of it.

mod archive;
mod content;
mod headers;
mod layers;
mod names;

use crate::support::TestStore;
use crate::tree::tree;
use crioxide_store::{LayerId, LayerStaging, NewLayer};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) use layers::layers_cannot_reach_through_those_below;

/// What is to become of an archive.
enum Wanted {
    /// An error with this in it.
    Refused(&'static str),
    /// What GNU tar makes of it.
    Same,
    /// The names in its tree. GNU tar does not take it: `..` in a name, or a link on the way that leads to the layer's own
    /// root. Upstream does, and so do images.
    Names(&'static [&'static str]),
}

/// A name, an archive, and what is to become of it.
type Case = (&'static str, Vec<u8>, Wanted);

pub(crate) fn archives_are_refused_or_what_tar_makes_of_them(driver: &str) {
    let Some(store) = TestStore::new(driver) else {
        return;
    };
    let outside = store.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let untouched = tree(&outside);
    let place = outside.to_str().unwrap();
    let (mut failures, mut filled, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
    for (name, tar, wanted) in all(place) {
        match unpack(&store, &tar, &wanted) {
            Ok(None) => {}
            Ok(Some((staging, new))) => {
                accepted.push((name, new.id.clone(), tar, wanted));
                filled.push((staging, new));
            }
            Err(problem) => failures.push(format!("{name}: {problem}")),
        }
        assert_eq!(tree(&outside), untouched, "{name}: wrote outside");
        let evil = Path::new("/crioxide-evil");
        assert!(!evil.exists(), "{name}: wrote outside");
    }
    // At once: each time costs a flush or two.
    store.commit_layers(filled).unwrap();
    for (name, id, tar, wanted) in accepted {
        if let Err(problem) = compare(&store, &id, &tar, &wanted) {
            failures.push(format!("{name}: {problem}"));
        }
    }
    if let Some(left) = staged(&store) {
        failures.push(format!("left {left}"));
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

fn all(outside: &str) -> impl Iterator<Item = Case> {
    let cases = [names::cases(outside), headers::cases(), content::cases()];
    cases.into_iter().flatten()
}

/// The layer, unless the archive is refused as it should be.
fn unpack(
    store: &TestStore,
    tar: &[u8],
    wanted: &Wanted,
) -> Result<Option<(LayerStaging, NewLayer)>, String> {
    let mut staging = store.stage_layer().unwrap();
    match (staging.unpack(tar), wanted) {
        (Err(error), Wanted::Refused(words)) => {
            let text = chain(&error);
            match text.contains(words) {
                true => Ok(None),
                false => Err(format!("another error: {text}")),
            }
        }
        (Err(error), _) => Err(format!("refused: {}", chain(&error))),
        (Ok(_), Wanted::Refused(_)) => Err("accepted".to_owned()),
        (Ok(summary), _) => {
            let id = LayerId::of_content(None, &summary.diff_id);
            Ok(Some((staging, NewLayer::unpacked(id, None, summary))))
        }
    }
}

fn compare(store: &TestStore, id: &LayerId, tar: &[u8], wanted: &Wanted) -> Result<(), String> {
    let ours = tree(&store.layer_content(id).unwrap());
    let mut again = Vec::new();
    std::io::Read::read_to_end(&mut store.layer_tar(id).unwrap(), &mut again)
        .map_err(|error| format!("not reproduced: {error}"))?;
    if again != tar {
        return Err("reproduced with other bytes".to_owned());
    }
    match wanted {
        Wanted::Names(names) => {
            let found: Vec<_> = ours.keys().filter(|name| !name.is_empty()).collect();
            (found == *names).then_some(()).ok_or(format!("{found:?}"))
        }
        _ => same(&ours, &by_gnu_tar(store, tar)?),
    }
}

/// The tree that GNU tar unpacks; an error if it does not like the archive.
fn by_gnu_tar(store: &TestStore, tar: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let directory = tempfile::tempdir_in(store.path("")).unwrap();
    // The root of a layer that says nothing of it.
    let root = directory.path().join("root");
    rustix::fs::mkdir(&root, 0o555.into()).unwrap();
    let mut child = Command::new("tar")
        .args([
            "-xp",
            "--same-owner",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ])
        .args([
            "--delay-directory-restore",
            "--warning=no-timestamp",
            "-f",
            "-",
            "-C",
        ])
        .arg(&root)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("tar: {error}"))?;
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may stop reading at the end of the archive.
        scope.spawn(move || drop(input.write_all(tar)));
        let output = child.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(tree(&root)),
            false => Err(format!(
                "accepted, GNU tar says: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    })
}

fn same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Result<(), String> {
    let names = ours.keys().chain(theirs.keys());
    for name in names {
        // Directories that the archive only implies have the time at which they were made.
        let without_time = |line: &String| -> Vec<String> {
            let fields = line.split(' ').map(str::to_owned);
            fields.filter(|field| !is_now(field)).collect()
        };
        let lines = [ours.get(name), theirs.get(name)];
        if lines[0].map(without_time) != lines[1].map(without_time) {
            return Err(format!("{name}: {:?}, by GNU tar {:?}", lines[0], lines[1]));
        }
    }
    Ok(())
}

fn is_now(field: &str) -> bool {
    let Some((seconds, _)) = field.split_once('.') else {
        return false;
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    seconds
        .parse::<u64>()
        .is_ok_and(|time| (now - 600..=now).contains(&time))
}

/// Something in the directories for what is not finished.
fn staged(store: &TestStore) -> Option<String> {
    ["graph/{driver}/tempdirs", "graph/{driver}-layers/tmp"]
        .into_iter()
        .filter_map(|home| std::fs::read_dir(store.path(home)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .filter_map(|path| std::fs::read_dir(path).ok()?.next())
        // What was deleted is removed a little later.
        .map(|entry| entry.unwrap().path())
        .find(|path| crate::support::stays(path))
        .map(|path| path.display().to_string())
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<_> = sources.map(ToString::to_string).collect();
    words.join(": ")
}
