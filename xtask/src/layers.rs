//! Who may depend on whom. A new edge is a visible change to the tables here.
//!
//! The rule in one sentence: base <- formats <- {image, network, container} <- service <- crioxide, and the three
//! middle groups never see each other. Between layers every edge downwards is fine; inside a layer only those listed.

/// The folder of a group of crates and its height.
pub(crate) const GROUPS: &[(&str, u8)] = &[
    ("crates/base", 0),
    ("crates/formats", 1),
    ("crates/image", 2),
    ("crates/network", 2),
    ("crates/container", 2),
    ("crates/service", 3),
    ("crates/crioxide", 4),
    ("crates/test-support", 5),
    ("bench", 6),
    ("tests", 6),
    ("xtask", 6),
];

/// The edges inside a group: (user, used).
pub(crate) const INSIDE: &[(&str, &str)] = &[
    ("crioxide-files", "crioxide-sys"),
    ("crioxide-node-records", "crioxide-cri-api"),
    ("crioxide-runtime-spec", "crioxide-cri-api"),
    ("crioxide-runtime-spec", "crioxide-node-records"),
    ("crioxide-pull", "crioxide-registry"),
    ("crioxide-pull", "crioxide-store"),
    ("crioxide-cni-plugins", "crioxide-cni"),
    ("crioxide-cni-plugins", "crioxide-netlink"),
    ("crioxide-criu-images", "crioxide-confinement"),
    ("crioxide-oci-runtime-builtin", "crioxide-oci-runtime"),
    ("crioxide-oci-runtime-builtin", "crioxide-cgroups"),
    ("crioxide-oci-runtime-builtin", "crioxide-confinement"),
    ("crioxide-monitor", "crioxide-oci-runtime"),
    ("crioxide-monitor", "crioxide-oci-runtime-builtin"),
    ("crioxide-monitor", "crioxide-cgroups"),
    ("crioxide-streaming", "crioxide-engine"),
    ("crioxide-cri-server", "crioxide-engine"),
    ("crioxide-cri-server", "crioxide-streaming"),
    ("crioxide-daemon", "crioxide-engine"),
    ("crioxide-daemon", "crioxide-cri-server"),
    ("crioxide-daemon", "crioxide-streaming"),
];

/// A package whose whole closure must be free of some others.
#[derive(Debug)]
pub(crate) struct Ban {
    pub(crate) package: &'static str,
    pub(crate) never: &'static [&'static str],
    pub(crate) reason: &'static str,
}

const ASYNC: &[&str] = &["tokio", "hyper", "tonic", "reqwest"];
const PURE: &[&str] = &["tokio", "crioxide-sys"];

/// Bans on closures. (`crioxide-cri-api` is not among the pure ones: its feature `grpc` brings tonic, and features
/// are joined over the workspace.)
pub(crate) const BANS: &[Ban] = &[
    Ban {
        package: "crioxide-monitor",
        never: ASYNC,
        reason: "every pod pays for the monitor's memory",
    },
    Ban {
        package: "crioxide-oci-runtime-builtin",
        never: ASYNC,
        reason: "it runs in forked children",
    },
    Ban {
        package: "crioxide-names",
        never: PURE,
        reason: "names are pure",
    },
    Ban {
        package: "crioxide-config",
        never: PURE,
        reason: "configuration has no side effects",
    },
    Ban {
        package: "crioxide-monitor-protocol",
        never: PURE,
        reason: "formats do no I/O",
    },
    Ban {
        package: "crioxide",
        never: &["openssl-sys", "native-tls"],
        reason: "the binary is static and TLS is rustls",
    },
];

/// Dependencies that only the packages listed may name directly.
pub(crate) const EXCLUSIVE: &[(&str, &[&str])] = &[
    ("libc", &["crioxide-sys"]),
    (
        "tonic",
        &[
            "crioxide-cri-api",
            "crioxide-cri-server",
            "crioxide-daemon",
            "crioxide",
            "crioxide-test-support",
            "crioxide-system-tests",
            "crioxide-bench",
        ],
    ),
    ("hyper", &["crioxide-daemon", "crioxide-streaming"]),
    ("reqwest", &["crioxide-registry", "crioxide-test-support"]),
];

/// The height of the group that `directory` (relative to the root) belongs to, with the group's folder.
pub(crate) fn group_of(directory: &str) -> Option<(&'static str, u8)> {
    GROUPS
        .iter()
        .find(|(folder, _)| directory == *folder || directory.starts_with(&format!("{folder}/")))
        .copied()
}
