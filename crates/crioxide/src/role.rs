//! Which of its parts the program plays.

use std::ffi::OsString;
use std::path::Path;

use crioxide_cni_plugins::PLUGIN_TYPES;
use crioxide_demo_image::Part;

/// A part with a `main` of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The daemon and the commands of its users, told apart by flags.
    CommandLine,
    /// The process that the daemon starts first and that forks the monitors.
    Spawner {
        /// Limit of open files for containers, `soft:hard`.
        open_files: String,
    },
    /// Makes the namespaces of a pod that has a user namespace.
    Namespaces { arguments: Vec<OsString> },
    /// The built-in OCI runtime by its command line. The arguments begin with the runtime's name.
    OciRuntime { arguments: Vec<OsString> },
    /// What runs in the demo's container.
    DemoImage { part: Part },
    /// A CNI plugin of this type, as other CNI users call it.
    CniPlugin { plugin: String },
}

impl Role {
    /// The part that the arguments, program name first, ask for.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let name = arguments
            .first()
            .map(Path::new)
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        // Called by a plugin's name, the program is that plugin.
        if let Some(plugin) = name.filter(|name| PLUGIN_TYPES.contains(name)) {
            return Role::CniPlugin {
                plugin: plugin.to_owned(),
            };
        }
        let word = |index: usize| arguments.get(index).and_then(|argument| argument.to_str());
        match (word(1), word(2)) {
            (Some("spawner"), open_files) => Role::Spawner {
                open_files: open_files.unwrap_or_default().to_owned(),
            },
            (Some("namespaces"), _) => Role::Namespaces {
                arguments: arguments.get(2..).unwrap_or_default().to_vec(),
            },
            (Some("oci"), _) => Role::OciRuntime {
                arguments: arguments.get(1..).unwrap_or_default().to_vec(),
            },
            (Some("cni"), Some(plugin)) => Role::CniPlugin {
                plugin: plugin.to_owned(),
            },
            (Some(crioxide_demo_image::ROLE), Some(word)) => {
                Part::parse(word).map_or(Role::CommandLine, |part| Role::DemoImage { part })
            }
            _ => Role::CommandLine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(words: &[&str]) -> Role {
        Role::of(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn follows_from_name_and_first_word() {
        assert_eq!(role(&[]), Role::CommandLine);
        assert_eq!(role(&["/usr/bin/crio"]), Role::CommandLine);
        assert_eq!(role(&["crio", "--root", "spawner"]), Role::CommandLine);
        assert_eq!(
            role(&["crio", "spawner", "1024:4096"]),
            Role::Spawner {
                open_files: "1024:4096".to_owned()
            }
        );
        assert_eq!(
            role(&["crio", "oci", "--root", "/r", "state", "x"]),
            Role::OciRuntime {
                arguments: ["oci", "--root", "/r", "state", "x"]
                    .map(OsString::from)
                    .to_vec()
            }
        );
        assert_eq!(
            role(&["crio", "cni", "bridge"]),
            Role::CniPlugin {
                plugin: "bridge".to_owned()
            }
        );
        assert_eq!(
            role(&["/opt/cni/bin/host-local"]),
            Role::CniPlugin {
                plugin: "host-local".to_owned()
            }
        );
        assert_eq!(role(&["crio", "cni"]), Role::CommandLine);
        let demo = role(&Part::Inside.command());
        assert_eq!(demo, Role::DemoImage { part: Part::Inside });
        assert_eq!(role(&["crio", "demo-image", "x"]), Role::CommandLine);
    }
}
