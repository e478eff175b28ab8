//! VLANs of a trunk, as single ids and ranges.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::LAST_VLAN;

/// One entry of `vlanTrunk`.
#[derive(Debug, Deserialize)]
pub(super) struct Trunk {
    #[serde(rename = "minID")]
    min: Option<i64>,
    #[serde(rename = "maxID")]
    max: Option<i64>,
    id: Option<i64>,
}

/// All ids, in order, each once.
pub(super) fn ids(entries: &[Trunk]) -> Result<Vec<u16>, String> {
    let mut all = BTreeSet::new();
    for entry in entries {
        match (entry.min, entry.max) {
            (Some(min), Some(max)) => {
                let (min, max) = (checked(min, "minID")?, checked(max, "maxID")?);
                if max < min {
                    return Err("`minID` is greater than `maxID`".to_owned());
                }
                all.extend(min..=max);
            }
            (None, None) => {}
            (None, _) => return Err("`maxID` needs a `minID`".to_owned()),
            (_, None) => return Err("`minID` needs a `maxID`".to_owned()),
        }
        if let Some(id) = entry.id {
            all.insert(checked(id, "id")?);
        }
    }
    Ok(all.into_iter().collect())
}

fn checked(id: i64, key: &str) -> Result<u16, String> {
    u16::try_from(id)
        .ok()
        .filter(|id| (1..=LAST_VLAN).contains(id))
        .ok_or_else(|| format!("`{key}` must be from 1 to {LAST_VLAN}, not {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ids_and_ranges() {
        for (text, expected) in [
            ("[]", Some(vec![])),
            (r#"[{"id":5},{"minID":3,"maxID":5}]"#, Some(vec![3, 4, 5])),
            (r#"[{"id":4094,"minID":1,"maxID":1}]"#, Some(vec![1, 4094])),
            (r#"[{}]"#, Some(vec![])),
            (r#"[{"id":0}]"#, None),
            (r#"[{"id":4095}]"#, None),
            (r#"[{"minID":3}]"#, None),
            (r#"[{"maxID":3}]"#, None),
            (r#"[{"minID":-1,"maxID":3}]"#, None),
            (r#"[{"minID":5,"maxID":3}]"#, None),
        ] {
            let entries: Vec<Trunk> = serde_json::from_str(text).unwrap();
            assert_eq!(ids(&entries).ok(), expected, "{text}");
        }
    }
}
