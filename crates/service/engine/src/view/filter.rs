//! List filters: all conditions must hold; an id matches as a prefix; labels match exactly.

use std::collections::{BTreeMap, HashMap};

/// Whether `labels` has every pair of `selector`.
pub(crate) fn labels_match(
    labels: &BTreeMap<String, String>,
    selector: &HashMap<String, String>,
) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether `id` is or begins with `prefix`; an empty prefix matches all.
pub(crate) fn id_matches(id: &str, prefix: &str) -> bool {
    id.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_labels_must_match() {
        let labels = BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ]);
        let selector = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert!(labels_match(&labels, &selector(&[])));
        assert!(labels_match(&labels, &selector(&[("a", "1"), ("b", "2")])));
        assert!(!labels_match(&labels, &selector(&[("a", "1"), ("c", "2")])));
        assert!(!labels_match(&labels, &selector(&[("a", "2")])));
    }
}
