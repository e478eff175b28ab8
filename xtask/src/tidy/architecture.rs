//! ARCHITECTURE.md is the map: it names every crate and stays short enough to read.

use crate::tidy::tree::Tree;
use crate::workspace::PackageGraph;

const MAP: &str = "ARCHITECTURE.md";
const MOST_LINES: usize = 300;

pub(super) fn check(graph: &PackageGraph, tree: &Tree) -> Vec<String> {
    let Some(map) = tree.get(MAP) else {
        return vec![format!("{MAP} is missing")];
    };
    let mut wrong = Vec::new();
    let lines = map.text.lines().count();
    if lines > MOST_LINES {
        wrong.push(format!("{MAP} has {lines} lines: at most {MOST_LINES}"));
    }
    for member in &graph.members {
        let folder = member
            .directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let named = [
            format!("`{folder}`"),
            format!("`{folder}/`"),
            format!("`{}`", member.name),
        ]
        .iter()
        .any(|name| map.text.contains(name))
            || map.text.contains(&*member.directory.to_string_lossy());
        if !named {
            wrong.push(format!("{MAP} does not name the crate `{folder}`"));
        }
    }
    wrong
}
