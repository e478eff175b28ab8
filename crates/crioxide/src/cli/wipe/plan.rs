//! What a wipe has to do, decided from facts alone.

use crioxide_node_records::version_file;

/// The version of CRI-O whose records this program reads and writes. Version files carry it, so that either daemon
/// can take over the other's containers.
pub(super) const RECORDS_VERSION: &str = "1.37.0";

/// What is known before anything is touched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// `--force`: both version files count as outdated.
    pub(super) forced: bool,
    /// Wiping is the daemon's own business.
    pub(super) internal_wipe: bool,
    /// The volatile version file is outdated.
    pub(super) rebooted: bool,
    /// The persistent version file is outdated.
    pub(super) upgraded: bool,
    pub(super) unclean: bool,
    pub(super) wiped_since_boot: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    /// Everything below the graph root.
    GraphRoot,
    Containers,
    ContainersAndImages,
}

pub(super) fn plan(facts: &Facts) -> Plan {
    let rebooted = facts.rebooted || facts.forced;
    let upgraded = facts.upgraded || facts.forced;
    if rebooted && facts.unclean {
        return if facts.wiped_since_boot {
            Plan::Nothing
        } else {
            Plan::GraphRoot
        };
    }
    if facts.internal_wipe && !facts.forced {
        return Plan::Nothing;
    }
    match (rebooted, upgraded) {
        // Images stay when containers do, whatever the persistent file says.
        (false, _) => Plan::Nothing,
        (true, false) => Plan::Containers,
        (true, true) => Plan::ContainersAndImages,
    }
}

/// Whether a version file with this content, or none, asks for a wipe: another major or minor version does.
pub(super) fn is_outdated(content: Option<&str>) -> bool {
    let ours = version_file::parse(&version_file::content(RECORDS_VERSION, None));
    match (content.map(version_file::parse), ours) {
        (Some(Ok(recorded)), Ok(ours)) => recorded != ours,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN_BOOT: Facts = Facts {
        forced: false,
        internal_wipe: false,
        rebooted: true,
        upgraded: false,
        unclean: false,
        wiped_since_boot: false,
    };

    #[test]
    fn plans() {
        assert_eq!(plan(&CLEAN_BOOT), Plan::Containers);
        assert_eq!(
            plan(&Facts {
                upgraded: true,
                ..CLEAN_BOOT
            }),
            Plan::ContainersAndImages
        );
        assert_eq!(
            plan(&Facts {
                rebooted: false,
                upgraded: true,
                ..CLEAN_BOOT
            }),
            Plan::Nothing
        );
        assert_eq!(
            plan(&Facts {
                internal_wipe: true,
                ..CLEAN_BOOT
            }),
            Plan::Nothing
        );
        assert_eq!(
            plan(&Facts {
                internal_wipe: true,
                forced: true,
                ..CLEAN_BOOT
            }),
            Plan::ContainersAndImages
        );
        let crashed = Facts {
            unclean: true,
            internal_wipe: true,
            ..CLEAN_BOOT
        };
        assert_eq!(plan(&crashed), Plan::GraphRoot);
        assert_eq!(
            plan(&Facts {
                wiped_since_boot: true,
                ..crashed
            }),
            Plan::Nothing
        );
        assert_eq!(
            plan(&Facts {
                rebooted: false,
                ..crashed
            }),
            Plan::Nothing
        );
    }

    #[test]
    fn only_major_and_minor_count() {
        for (content, outdated) in [
            (None, true),
            (Some("nonsense"), true),
            (Some("\"1.37.4+abc\""), false),
            (Some("\"1.36.0\""), true),
            (Some("\"2.37.0\""), true),
        ] {
            assert_eq!(is_outdated(content), outdated, "{content:?}");
        }
    }
}
