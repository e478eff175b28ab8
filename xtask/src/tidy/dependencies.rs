//! The dependency rule, against what cargo resolved.

use std::collections::BTreeMap;

use crate::layers::{BANS, EXCLUSIVE, INSIDE, group_of};
use crate::workspace::{Member, PackageGraph};

pub(super) fn check(graph: &PackageGraph) -> Vec<String> {
    let by_name: BTreeMap<&str, &Member> = graph
        .members
        .iter()
        .map(|member| (member.name.as_str(), member))
        .collect();
    let mut wrong = Vec::new();
    for user in &graph.members {
        if group_of(&user.directory.to_string_lossy()).is_none() {
            wrong.push(format!(
                "`{}` is in no group of xtask/src/layers.rs",
                user.name
            ));
        }
        for used in &user.dependencies {
            if let Some(used) = by_name.get(used.as_str()) {
                wrong.extend(edge(user, used));
            }
        }
    }
    for ban in BANS {
        for found in graph.closure(ban.package) {
            if ban.never.contains(&found.as_str()) {
                wrong.push(format!(
                    "`{}` must not reach `{found}`: {}",
                    ban.package, ban.reason
                ));
            }
        }
    }
    for (used, users) in EXCLUSIVE {
        for member in &graph.members {
            if member.dependencies.contains(*used) && !users.contains(&member.name.as_str()) {
                wrong.push(format!(
                    "`{}` must not name `{used}`: only {} may",
                    member.name,
                    users.join(", ")
                ));
            }
        }
    }
    wrong
}

fn edge(user: &Member, used: &Member) -> Option<String> {
    let (user_group, user_height) = group_of(&user.directory.to_string_lossy())?;
    let (used_group, used_height) = group_of(&used.directory.to_string_lossy())?;
    if user_height > used_height {
        return None;
    }
    let listed =
        user_group == used_group && INSIDE.contains(&(user.name.as_str(), used.name.as_str()));
    (!listed).then(|| {
        format!(
            "`{}` ({user_group}) may not use `{}` ({used_group}): see xtask/src/layers.rs",
            user.name, used.name
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Member, edge};

    fn member(name: &str, directory: &str) -> Member {
        Member {
            name: name.to_owned(),
            directory: directory.into(),
            dependencies: BTreeSet::new(),
        }
    }

    #[test]
    fn edges_go_down_or_are_listed() {
        let store = member("crioxide-store", "crates/image/store");
        let pull = member("crioxide-pull", "crates/image/pull");
        let cni = member("crioxide-cni", "crates/network/cni");
        let names = member("crioxide-names", "crates/base/names");
        assert_eq!(edge(&pull, &names), None);
        assert_eq!(edge(&pull, &store), None);
        assert!(edge(&store, &pull).is_some(), "not listed");
        assert!(
            edge(&pull, &cni).is_some(),
            "middle groups never see each other"
        );
        assert!(edge(&names, &store).is_some(), "upwards");
    }
}
