//! SELinux labels of pods and containers, and the categories that keep pods apart.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use crioxide_engine::ports::{LabelRequest, Labels, PortError};
use crioxide_files::read_to_string_limited;
use crioxide_runtime_spec::{
    request::Privilege,
    selinux::{HostNetworkProcesses, Labelled, labelled},
};

const CONFIG: &str = "/etc/selinux/config";
const CONFIG_MAX: u64 = 1 << 20;
/// Categories are `c0` to `c1023`.
const CATEGORIES: u16 = 1024;
/// What containers get where the policy names nothing.
const PROCESS: &str = "system_u:system_r:container_t:s0";
const FILE: &str = "system_u:object_r:container_file_t:s0";

/// Two different categories, the smaller one first.
type Pair = (u16, u16);

/// The labels that this node gives out.
#[derive(Debug)]
pub(crate) struct SELinux {
    /// `None` without SELinux.
    contexts: Option<Contexts>,
    host_network: HostNetworkProcesses,
    /// How many pods have each pair.
    taken: Mutex<BTreeMap<Pair, usize>>,
}

/// Label of processes and files before categories are added.
#[derive(Debug)]
struct Contexts {
    process: String,
    /// Of a virtual machine's process; only its type is used.
    virtual_machine: String,
    file: String,
}

impl SELinux {
    /// `enabled` is the configuration's, which follows the host's state.
    pub(crate) fn new(enabled: bool, host_network_unlabelled: bool) -> Self {
        Self {
            contexts: enabled.then(Contexts::of_policy),
            host_network: if host_network_unlabelled {
                HostNetworkProcesses::Unlabelled
            } else {
                HostNetworkProcesses::Labelled
            },
            taken: Mutex::default(),
        }
    }

    /// Labels of a pod, which get categories of their own, or of a container, which has its pod's.
    pub(super) fn labels(&self, request: &LabelRequest) -> Result<Labels, PortError> {
        let Some(contexts) = &self.contexts else {
            return Ok(Labels::default());
        };
        let privilege = match request.privileged {
            true => Privilege::Privileged,
            false => Privilege::Restricted,
        };
        let what = labelled(request.namespaces.as_ref(), privilege, self.host_network);
        if what == Labelled::Nothing {
            return Ok(Labels::default());
        }
        let options = request.options.clone().unwrap_or_default();
        let parts = [
            &options.user,
            &options.role,
            &options.r#type,
            &options.level,
        ];
        if parts.iter().any(|part| part.contains(['\0', '\n', ' '])) {
            return Err(format!("SELinux options {options:?} make no label").into());
        }
        let of_pod = request.pod.as_ref().filter(|pod| !pod.mount.is_empty());
        let level = match (options.level.as_str(), of_pod) {
            ("", Some(pod)) => level_of(&pod.mount).to_owned(),
            ("", None) => self.new_level()?,
            (given, None) => {
                self.keep_level(given);
                given.to_owned()
            }
            (given, Some(_)) => given.to_owned(),
        };
        let base = of_pod
            .map(|pod| pod.process.as_str())
            .filter(|label| !label.is_empty())
            .unwrap_or(&contexts.process);
        // As CRI-O: whatever type was asked for, it is for the guest.
        let kind = match request.virtual_machine {
            true => type_of(&contexts.virtual_machine),
            false => &options.r#type,
        };
        let process = with_parts(base, &options.user, &options.role, kind, &level);
        Ok(Labels {
            process: match what {
                Labelled::ProcessAndFiles => process,
                _ => String::new(),
            },
            mount: with_parts(&contexts.file, "", "", "", &level),
        })
    }

    /// Counts the categories of a pod of before a restart.
    pub(super) fn keep(&self, mount_label: &str) {
        self.keep_level(level_of(mount_label));
    }

    /// Gives a pod's categories back.
    pub(super) fn release(&self, mount_label: &str) {
        let Some(pair) = pair_of(level_of(mount_label)) else {
            return;
        };
        let mut taken = self.lock();
        if let Some(count) = taken.get_mut(&pair) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&pair);
            }
        }
    }

    fn keep_level(&self, level: &str) {
        if let Some(pair) = pair_of(level) {
            *self.lock().entry(pair).or_default() += 1;
        }
    }

    fn new_level(&self) -> Result<String, PortError> {
        let mut taken = self.lock();
        let all = usize::from(CATEGORIES) * usize::from(CATEGORIES - 1) / 2;
        if taken.len() >= all {
            return Err("all SELinux categories are taken".into());
        }
        loop {
            let mut bytes = [0; 4];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            let category = |low, high| u16::from_le_bytes([low, high]) % CATEGORIES;
            let (one, two) = (category(bytes[0], bytes[1]), category(bytes[2], bytes[3]));
            let pair = (one.min(two), one.max(two));
            if one != two && !taken.contains_key(&pair) {
                taken.insert(pair, 1);
                return Ok(format!("s0:c{},c{}", pair.0, pair.1));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pair, usize>> {
        self.taken.lock().expect("no holder of this lock panics")
    }
}

impl Contexts {
    /// As the policy's `lxc_contexts` names them.
    fn of_policy() -> Self {
        let config = read_to_string_limited(CONFIG, CONFIG_MAX).unwrap_or_default();
        let policy = value(&config, "SELINUXTYPE").unwrap_or("targeted");
        let path = Path::new("/etc/selinux")
            .join(policy)
            .join("contexts/lxc_contexts");
        let text = read_to_string_limited(&path, CONFIG_MAX).unwrap_or_default();
        let label = |key, otherwise: &str| value(&text, key).unwrap_or(otherwise).to_owned();
        let process = label("process", PROCESS);
        Self {
            virtual_machine: label("kvm_process", &process),
            process,
            file: label("file", FILE),
        }
    }
}

/// The value of `key = "value"` in a file of such lines.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    })
}

/// `user:role:type:level`, where the level may hold colons.
fn with_parts(label: &str, user: &str, role: &str, kind: &str, level: &str) -> String {
    let mut parts = label.splitn(4, ':');
    let mut part = |given: &str| {
        let own = parts.next().unwrap_or_default();
        if given.is_empty() {
            own.to_owned()
        } else {
            given.to_owned()
        }
    };
    [part(user), part(role), part(kind), part(level)].join(":")
}

fn type_of(label: &str) -> &str {
    label.split(':').nth(2).unwrap_or_default()
}

fn level_of(label: &str) -> &str {
    label.splitn(4, ':').nth(3).unwrap_or_default()
}

/// The categories of a level `s0:c1,c2`; `None` for another shape, which is never given out.
fn pair_of(level: &str) -> Option<Pair> {
    let (one, two) = level.strip_prefix("s0:c")?.split_once(",c")?;
    Some((one.parse().ok()?, two.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crioxide_cri_api::v1;

    fn node() -> SELinux {
        SELinux {
            contexts: Some(Contexts {
                process: PROCESS.to_owned(),
                virtual_machine: PROCESS.replace("container_t", "container_kvm_t"),
                file: FILE.to_owned(),
            }),
            ..SELinux::new(false, true)
        }
    }

    #[test]
    fn pods_differ_and_their_containers_agree() {
        let node = node();
        let pod = node.labels(&LabelRequest::default()).unwrap();
        let other = node.labels(&LabelRequest::default()).unwrap();
        assert_ne!(pod, other);
        assert!(
            pod.process
                .starts_with("system_u:system_r:container_t:s0:c")
        );
        let container = LabelRequest {
            pod: Some(pod.clone()),
            ..LabelRequest::default()
        };
        assert_eq!(node.labels(&container).unwrap(), pod);
        let typed = LabelRequest {
            options: Some(v1::SeLinuxOption {
                r#type: "spc_t".to_owned(),
                ..Default::default()
            }),
            ..container
        };
        let typed = node.labels(&typed).unwrap();
        assert_eq!(typed.process, pod.process.replace("container_t", "spc_t"));
        assert_eq!(typed.mount, pod.mount);
        assert_eq!(node.lock().len(), 2);
        node.keep(&pod.mount);
        node.release(&pod.mount);
        assert_eq!(node.lock().len(), 2);
        node.release(&pod.mount);
        node.release(&other.mount);
        assert!(node.lock().is_empty());
    }

    #[test]
    fn virtual_machines_have_a_type_of_their_own() {
        let node = node();
        let guest = LabelRequest {
            virtual_machine: true,
            ..LabelRequest::default()
        };
        let pod = node.labels(&guest).unwrap();
        let expected = "system_u:system_r:container_kvm_t:s0:c";
        assert!(pod.process.starts_with(expected), "{}", pod.process);
        assert!(pod.mount.contains(":container_file_t:"), "{}", pod.mount);
        let container = LabelRequest {
            options: Some(v1::SeLinuxOption {
                r#type: "spc_t".to_owned(),
                ..Default::default()
            }),
            pod: Some(pod.clone()),
            ..guest
        };
        assert_eq!(node.labels(&container).unwrap(), pod);
    }

    #[test]
    fn given_levels_are_kept_and_nothing_is_labelled_without() {
        let node = node();
        let request = LabelRequest {
            options: Some(v1::SeLinuxOption {
                level: "s0:c4,c5".to_owned(),
                ..Default::default()
            }),
            ..LabelRequest::default()
        };
        let labels = node.labels(&request).unwrap();
        assert_eq!(labels.mount, "system_u:object_r:container_file_t:s0:c4,c5");
        let off = SELinux::new(false, true);
        assert_eq!(off.labels(&request).unwrap(), Labels::default());
        let privileged = LabelRequest {
            privileged: true,
            ..LabelRequest::default()
        };
        let labels = node.labels(&privileged).unwrap();
        assert!(labels.process.is_empty() && !labels.mount.is_empty());
    }
}
