//! Which annotations of pods and images may change how containers run.
//!
//! Annotations are written by whoever may create pods. Those that reach into the runtime, the cgroups or the node count
//! only where the administrator allowed them, by the runtime handler or a workload. Everything else is mere data.

use std::collections::BTreeMap;

/// Annotations with an effect, with their earlier spelling if they have one.
const GATED: [(&str, Option<&str>); 24] = [
    (
        "cgroup2-mount-hierarchy-rw.crio.io",
        Some("io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw"),
    ),
    ("devices.crio.io", Some("io.kubernetes.cri-o.Devices")),
    (
        "disable-fips.crio.io",
        Some("io.kubernetes.cri-o.DisableFIPS"),
    ),
    ("link-logs.crio.io", Some("io.kubernetes.cri-o.LinkLogs")),
    (
        "seccomp-notifier-action.crio.io",
        Some("io.kubernetes.cri-o.seccompNotifierAction"),
    ),
    (
        "seccomp-profile.crio.io",
        Some("seccomp-profile.kubernetes.cri-o.io"),
    ),
    ("shm-size.crio.io", Some("io.kubernetes.cri-o.ShmSize")),
    (
        "try-skip-volume-selinux-label.crio.io",
        Some("io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel"),
    ),
    ("umask.crio.io", Some("io.kubernetes.cri-o.umask")),
    (
        "unified-cgroup.crio.io",
        Some("io.kubernetes.cri-o.UnifiedCgroup"),
    ),
    (
        "userns-mode.crio.io",
        Some("io.kubernetes.cri-o.userns-mode"),
    ),
    ("cpu-load-balancing.crio.io", None),
    ("cpu-quota.crio.io", None),
    ("irq-load-balancing.crio.io", None),
    ("cpu-c-states.crio.io", None),
    ("cpu-freq-governor.crio.io", None),
    ("cpu-shared.crio.io", None),
    ("skip-gomaxprocs.crio.io", None),
    ("io.containers.trace-syscall", None),
    ("io.kubernetes.cri.rdt-class", None),
    ("run.oci.", None),
    ("org.systemd.property.", None),
    ("org.criu.config", None),
    ("module.wasm.image/variant", None),
];

/// Never taken from a request: runtimes give them a meaning of their own.
const RESERVED: [&str; 2] = ["bundle", "io.kubernetes.cri.container-type"];

/// Removes what is not allowed; `allowed` holds names or prefixes in either spelling.
#[must_use]
pub fn filter(
    annotations: BTreeMap<String, String>,
    allowed: &[String],
) -> BTreeMap<String, String> {
    annotations
        .into_iter()
        .filter(|(key, _)| is_allowed(key, allowed))
        .collect()
}

/// The value of an annotation by its current name, looked up in both spellings; `suffix` names a container.
///
/// A container's own value (`name/suffix` or `name.suffix`) beats the pod-wide one, and the current spelling the earlier.
#[must_use]
pub fn lookup<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &str,
    suffix: Option<&str>,
) -> Option<&'a str> {
    let earlier = GATED
        .iter()
        .find(|(current, _)| *current == name)
        .and_then(|(_, earlier)| *earlier);
    let spellings: Vec<&str> = [Some(name), earlier].into_iter().flatten().collect();
    let own = suffix.and_then(|suffix| {
        spellings.iter().find_map(|base| {
            annotations
                .get(&format!("{base}/{suffix}"))
                .or_else(|| annotations.get(&format!("{base}.{suffix}")))
        })
    });
    own.or_else(|| spellings.iter().find_map(|base| annotations.get(*base)))
        .map(String::as_str)
}

/// Whether an `allowed_annotations` entry names something that can be allowed.
#[must_use]
pub fn is_known(name: &str) -> bool {
    RESERVED.contains(&name)
        || GATED.iter().any(|(current, earlier)| {
            name.starts_with(current) || earlier.is_some_and(|earlier| name.starts_with(earlier))
        })
}

fn is_allowed(key: &str, allowed: &[String]) -> bool {
    if RESERVED.contains(&key) {
        return allowed.iter().any(|name| name == key);
    }
    let Some(key) = current_spelling(key) else {
        return true;
    };
    allowed
        .iter()
        .filter_map(|name| current_spelling(name))
        .any(|prefix| key.starts_with(&prefix))
}

/// The current spelling of a gated annotation; `None` if it is not gated.
fn current_spelling(key: &str) -> Option<String> {
    GATED.iter().find_map(|(current, earlier)| {
        if key.starts_with(current) {
            return Some(key.to_owned());
        }
        let rest = key.strip_prefix((*earlier)?)?;
        let suffix = rest
            .strip_prefix('.')
            .map_or_else(|| rest.to_owned(), |container| format!("/{container}"));
        Some(format!("{current}{suffix}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<String, String> {
        keys.iter()
            .map(|key| ((*key).to_owned(), format!("value of {key}")))
            .collect()
    }

    fn kept(keys: &[&str], allowed: &[&str]) -> Vec<String> {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        filter(map(keys), &allowed).into_keys().collect()
    }

    #[test]
    fn effects_need_permission() {
        for key in [
            "org.systemd.property.ExecStart",
            "run.oci.hooks.stderr",
            "devices.crio.io",
            "io.kubernetes.cri-o.Devices",
            "unified-cgroup.crio.io/web",
            "bundle",
            "io.kubernetes.cri-o.UnifiedCgroup.web",
        ] {
            assert!(kept(&[key], &[]).is_empty(), "{key}");
        }
        assert_eq!(kept(&["app", "io.kubernetes.pod.name"], &[]).len(), 2);
    }

    #[test]
    fn both_spellings_are_allowed_together() {
        assert_eq!(
            kept(
                &["devices.crio.io", "umask.crio.io"],
                &["io.kubernetes.cri-o.Devices"]
            ),
            ["devices.crio.io"]
        );
        assert_eq!(
            kept(&["io.kubernetes.cri-o.Devices"], &["devices.crio.io"]),
            ["io.kubernetes.cri-o.Devices"]
        );
        assert!(kept(&["devices.crio.io", "bundle"], &[""]).is_empty());
        assert_eq!(kept(&["bundle"], &["bundle"]), ["bundle"]);
    }

    #[test]
    fn permission_is_no_wider_than_its_name() {
        let keys = [
            "run.oci.handler",
            "run.oci.hooks.stderr",
            "umask.crio.io/web",
            "umask.crio.io/db",
            "io.kubernetes.cri-o.UnifiedCgroup.web",
        ];
        assert_eq!(
            kept(&keys, &["run.oci.handler", "umask.crio.io/web", "d", "io"]),
            ["run.oci.handler", "umask.crio.io/web"]
        );
        assert_eq!(
            kept(&keys, &["unified-cgroup.crio.io"]),
            ["io.kubernetes.cri-o.UnifiedCgroup.web"]
        );
    }

    #[test]
    fn nearest_value_wins() {
        let annotations = map(&[
            "umask.crio.io",
            "io.kubernetes.cri-o.umask",
            "umask.crio.io/web",
            "io.kubernetes.cri-o.UnifiedCgroup.web",
        ]);
        assert_eq!(
            lookup(&annotations, "umask.crio.io", Some("web")),
            Some("value of umask.crio.io/web")
        );
        assert_eq!(
            lookup(&annotations, "umask.crio.io", Some("db")),
            Some("value of umask.crio.io")
        );
        assert_eq!(
            lookup(&annotations, "unified-cgroup.crio.io", Some("web")),
            Some("value of io.kubernetes.cri-o.UnifiedCgroup.web")
        );
        assert_eq!(lookup(&annotations, "shm-size.crio.io", None), None);
    }

    #[test]
    fn known_names() {
        assert!(
            is_known("io.containers.trace-syscall")
                && is_known("run.oci.handler")
                && is_known("bundle")
        );
        assert!(!is_known("app") && !is_known("io.kubernetes"));
    }
}
