//! Sizes, names and unsafe code of the Rust sources.

use std::collections::BTreeMap;

use crate::tidy::tree::{SourceFile, Tree};

const MOST_LINES: usize = 600;
const MOST_FILES: usize = 15;
const UNSAFE_CRATE: &str = "crates/base/sys/";
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "misc", "helper", "helpers", "types", "manager", "mod",
];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in tree.rust().filter(|file| !file.is_generated()) {
        wrong.extend(size(file));
        wrong.extend(name(file));
        wrong.extend(unsafe_code(file));
    }
    wrong.extend(directories(tree));
    wrong
}

/// One line of figures for people.
pub(super) fn summary(tree: &Tree) -> String {
    let mut lengths: Vec<usize> = tree
        .rust()
        .filter(|file| !file.is_generated())
        .map(|file| file.text.lines().count())
        .collect();
    lengths.sort_unstable();
    let blocks: usize = tree
        .rust()
        .map(|file| unsafe_blocks(&file.text).count())
        .sum();
    format!(
        "{} Rust files, {} lines, median {}, longest {}; {blocks} unsafe blocks",
        lengths.len(),
        lengths.iter().sum::<usize>(),
        lengths.get(lengths.len() / 2).copied().unwrap_or(0),
        lengths.last().copied().unwrap_or(0),
    )
}

fn size(file: &SourceFile) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > MOST_LINES).then(|| format!("{}: {lines} lines, at most {MOST_LINES}", file.path))
}

fn name(file: &SourceFile) -> Option<String> {
    let mut parts = file.path.split('/').chain([file.stem()]);
    let empty = parts.find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!(
        "{}: `{empty}` says nothing about what is inside",
        file.path
    ))
}

fn directories(tree: &Tree) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for file in tree.rust() {
        *counts.entry(file.directory()).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count > MOST_FILES)
        .map(|(directory, count)| {
            format!("{directory}: {count} source files, at most {MOST_FILES}: group by noun")
        })
        .collect()
}

fn unsafe_code(file: &SourceFile) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if file.path.starts_with(UNSAFE_CRATE) {
        for line in unsafe_blocks(&file.text) {
            if !has_reason(&file.text, line) {
                wrong.push(format!(
                    "{}:{}: unsafe block without a SAFETY comment",
                    file.path,
                    line + 1
                ));
            }
        }
        return wrong;
    }
    if is_root && !file.text.contains("#![forbid(unsafe_code)]") {
        wrong.push(format!(
            "{}: the crate root lacks #![forbid(unsafe_code)]",
            file.path
        ));
    }
    wrong
}

/// The lines (from 0) on which an unsafe block begins.
fn unsafe_blocks(text: &str) -> impl Iterator<Item = usize> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl"))
            .then_some(number)
    })
}

/// Whether a SAFETY comment stands in the comment block right above the statement of this line, or inside it.
fn has_reason(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let above = lines[..line].iter().rev().take(12);
    let below = lines[line..].iter().take(2);
    above.chain(below).any(|line| line.contains("SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::{check, unsafe_blocks};
    use crate::tidy::tree::{SourceFile, Tree};

    fn tree(path: &str, text: &str) -> Tree {
        Tree {
            files: vec![SourceFile {
                path: path.to_owned(),
                text: text.to_owned(),
            }],
        }
    }

    #[test]
    fn reports_what_is_wrong() {
        let fine = "#![forbid(unsafe_code)]\n";
        let block = "fn f() {\n    let x = unsafe { g() };\n}\n";
        let reasoned = "fn f() {\n    // SAFETY: always fine.\n    let x = unsafe { g() };\n}\n";
        for (path, text, expected) in [
            ("crates/a/src/lib.rs", fine, None),
            ("crates/a/src/lib.rs", "", Some("forbid")),
            ("crates/a/src/util.rs", "", Some("says nothing")),
            ("crates/a/src/mod.rs", "", Some("says nothing")),
            ("crates/a/src/long.rs", &"\n".repeat(601), Some("601 lines")),
            (
                "crates/base/sys/src/fork.rs",
                block,
                Some("fork.rs:2: unsafe"),
            ),
            ("crates/base/sys/src/fork.rs", reasoned, None),
        ] {
            let wrong = check(&tree(path, text));
            match expected {
                None => assert!(wrong.is_empty(), "{path}: {wrong:?}"),
                Some(part) => assert!(
                    wrong.iter().any(|line| line.contains(part)),
                    "{path}: {wrong:?}"
                ),
            }
        }
    }

    #[test]
    fn a_comment_about_unsafe_is_no_block() {
        assert_eq!(
            unsafe_blocks("// unsafe { no }\nunsafe { yes }\n").count(),
            1
        );
    }
}
