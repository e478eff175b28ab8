//! Texts that do not belong into the tree: marks of unfinished work, and paths of the machine it was written on.

use std::path::Path;

use crate::tidy::tree::Tree;

/// Written apart so that this file does not hold what it looks for.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];

pub(super) fn check(tree: &Tree, root: &Path) -> Vec<String> {
    let own = own_paths(root);
    let mut wrong = Vec::new();
    for file in &tree.files {
        for (number, line) in file.text.lines().enumerate() {
            let found = UNFINISHED
                .iter()
                .filter(|_| file.is_rust())
                .copied()
                .find(|word| line.contains(word))
                .or_else(|| {
                    own.iter()
                        .map(String::as_str)
                        .find(|path| names_path(line, path))
                });
            if let Some(found) = found {
                wrong.push(format!(
                    "{}:{}: `{found}` does not belong here",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    wrong
}

/// The path of this checkout and of the folder it is in. Paths of one part, such as `/src`, are too common to look for.
fn own_paths(root: &Path) -> Vec<String> {
    [Some(root), root.parent()]
        .into_iter()
        .flatten()
        .filter(|path| path.components().count() > 2)
        .map(|path| path.display().to_string())
        .collect()
}

/// Whether `line` holds `path` as an absolute path, not as the end of another.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let joins =
            |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "._-*}>".contains(c));
        !joins(before) && !joins(after)
    })
}

#[cfg(test)]
mod tests {
    use super::{check, names_path};
    use crate::tidy::tree::{SourceFile, Tree};
    use std::path::Path;

    #[test]
    fn only_whole_absolute_paths_count() {
        assert!(names_path("see /build/it/README", "/build/it"));
        assert!(names_path("cd \"/build/it\"", "/build/it"));
        assert!(!names_path("crates/build/it", "/build/it"));
        assert!(!names_path("/build/iteration", "/build/it"));
    }

    #[test]
    fn the_own_path_is_found_in_any_file() {
        let tree = Tree {
            files: vec![SourceFile {
                path: "docs/a.md".to_owned(),
                text: "fine\nrun /build/it/x\n".to_owned(),
            }],
        };
        let wrong = check(&tree, Path::new("/build/it"));
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("docs/a.md:2"), "{wrong:?}");
    }
}
