//! Attaching pods to the default network.

mod detach;
mod namespace;
mod restore;
pub(crate) mod verdict;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::attachment::check_names;
use crate::directory::ConfDir;
use crate::error::chain as error_chain;
use crate::gate::Gates;
use crate::plugin::chain::{Chain, Choice, OwnPortmap, Run};
use crate::plugin::search::Origin;
use crate::pod::parse_args;
use crate::{
    Attachment, CachedAttachment, CniError, FallbackBridge, Fate, FindPluginError, History,
    NetworkList, NotReady, PluginError, PluginSource, Plugins, PodNetwork, Preference, ResultCache,
    SpecVersion,
};

pub use detach::GcReport;
use namespace::namespace_at;

/// How pods are attached.
#[derive(Debug)]
pub struct CniSettings {
    /// Directory of network configurations.
    pub conf_dir: PathBuf,
    /// Directories of plugin programs, searched in order.
    pub plugin_dirs: Vec<PathBuf>,
    /// Directory below which attachments are recorded, `/var/lib/cni`.
    pub cache_dir: PathBuf,
    /// Name of the network to use; the first in lexical order of its file when not given.
    pub default_network: Option<String>,
    /// Plugins that need no program.
    pub builtin: Box<dyn PluginSource>,
    /// Which is used when a plugin is both a program and built in.
    pub preference: Preference,
    /// Network used while the configuration directory is empty; not ready without.
    pub fallback_bridge: Option<FallbackBridge>,
    /// What happens to host ports on a network whose plugins do not map them.
    pub host_ports: HostPorts,
    /// How long plugins may take.
    pub timeouts: Timeouts,
}

/// What happens to host ports on a network whose plugins do not map them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostPorts {
    /// They are mapped by the built-in plugin.
    #[default]
    Mapped,
    /// They are left alone (`disable_hostport_mapping`).
    Left,
}

/// How long all plugins of a list together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For ADD.
    pub add: Duration,
    /// For DEL.
    pub del: Duration,
    /// For CHECK, STATUS and GC.
    pub check: Duration,
    /// How long a STATUS that said ready is believed: pods that start meanwhile do not ask again.
    pub status_holds: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            add: Duration::from_mins(5),
            del: Duration::from_mins(1),
            check: Duration::from_secs(10),
            status_holds: Duration::from_secs(5),
        }
    }
}

/// What attaching a pod gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddResult {
    /// Name of the network.
    pub network: String,
    /// The pod's addresses, all families, in the plugin's order.
    pub ips: Vec<IpAddr>,
    /// The result in the newest version, as CRI-O keeps it in the `CNIResult` annotation.
    pub result: Value,
}

/// Pod networks. One object serves the whole daemon; calls for different pods may run in parallel,
/// calls for the same pod must not.
#[derive(Debug)]
pub struct Cni {
    conf_dir: ConfDir,
    default_network: Option<String>,
    plugins: Plugins,
    cache: ResultCache,
    fallback: Option<FallbackBridge>,
    host_ports: HostPorts,
    timeouts: Timeouts,
    inherited_args: Vec<(String, String)>,
    gates: Gates,
    /// Attaching reads it, GC writes it: what is being attached is not garbage.
    attaching: RwLock<()>,
    /// The list whose plugins last said that they are ready, and when.
    said_ready: Mutex<Option<(Arc<NetworkList>, Instant)>>,
}

/// A list, and the plugins it is run with.
struct Network {
    list: Arc<NetworkList>,
    plugins: Plugins,
}

impl Cni {
    /// Nothing is read yet: the directory is looked at with each use.
    pub fn new(settings: CniSettings) -> Self {
        Self {
            conf_dir: ConfDir::new(settings.conf_dir),
            default_network: settings.default_network.filter(|name| !name.is_empty()),
            plugins: Plugins::new(
                settings.plugin_dirs,
                Arc::from(settings.builtin),
                settings.preference,
            ),
            cache: ResultCache::new(&settings.cache_dir),
            fallback: settings.fallback_bridge,
            host_ports: settings.host_ports,
            timeouts: settings.timeouts,
            inherited_args: std::env::var("CNI_ARGS")
                .map(|text| parse_args(&text))
                .unwrap_or_default(),
            gates: Gates::default(),
            attaching: RwLock::new(()),
            said_ready: Mutex::new(None),
        }
    }

    /// Whether pods can be attached now: there is a usable network, its plugins are there, and (from
    /// version 1.1.0 on) they say they are ready.
    ///
    /// # Errors
    /// What is missing.
    pub fn status(&self) -> Result<(), NotReady> {
        let network = self.network()?;
        let list = &network.list;
        let not_ready = |error: &dyn std::error::Error| NotReady {
            reason: format!("CNI network `{}`: {}", list.name, error_chain(error)),
        };
        let chain = Chain::new(list, &network.plugins, &Choice::Preferred, OwnPortmap::No)
            .map_err(|error| not_ready(&error))?;
        for plugin in &list.plugins {
            let ipam = plugin
                .object
                .get("ipam")
                .and_then(|ipam| ipam.get("type"))
                .and_then(Value::as_str);
            if let Some(ipam) = ipam.filter(|ipam| !ipam.is_empty()) {
                network
                    .plugins
                    .find(ipam)
                    .map_err(|error| not_ready(&error))?;
            }
        }
        if list.version < SpecVersion::V1_1_0 || self.said_ready_lately(list) {
            return Ok(());
        }
        let nobody = Attachment::nobody(&list.name);
        let answer = chain
            .status(&self.run(&nobody, None, self.timeouts.check))
            .map_err(|error| not_ready(&error));
        let mut said = self
            .said_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *said = answer.is_ok().then(|| (Arc::clone(list), Instant::now()));
        answer
    }

    /// Whether the default network's first plugin is the built-in one of this type.
    pub fn begins_with_builtin(&self, plugin_type: &str) -> bool {
        let Ok(network) = self.network() else {
            return false;
        };
        let first = network.list.plugins.first();
        first.is_some_and(|first| first.plugin_type == plugin_type)
            && network
                .plugins
                .find(plugin_type)
                .is_ok_and(|found| found.origin == Origin::Builtin)
    }

    /// Whether this very list was ready a moment ago. Only good news is believed: what is not ready
    /// is asked again each time, so that pods start as soon as it is.
    fn said_ready_lately(&self, list: &Arc<NetworkList>) -> bool {
        let said = self
            .said_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        said.as_ref().is_some_and(|(of, at)| {
            Arc::ptr_eq(of, list) && at.elapsed() < self.timeouts.status_holds
        })
    }

    /// Attaches a pod to the default network and brings up its loopback interface.
    ///
    /// An attachment of the same pod and interface that is on record is removed first. When ADD
    /// fails, DEL has been run; what could not be undone stays on record for [`Self::gc`].
    ///
    /// # Errors
    /// When there is no usable network or a plugin fails.
    pub fn add(&self, pod: &PodNetwork) -> Result<AddResult, CniError> {
        check_names(pod)?;
        let _gate = self.gates.enter(&pod.id);
        let _attaching = self
            .attaching
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let netns_id = namespace_at(&pod.netns).map_err(|source| CniError::Netns {
            id: pod.id.clone(),
            path: pod.netns.clone(),
            source,
        })?;
        let earlier = self.cache.of_container(&pod.id, &pod.ifname)?;
        for earlier in &earlier.entries {
            tracing::warn!(pod = %pod.id, network = %earlier.attachment.network, "removing an earlier attachment");
            self.remove(earlier, Fate::Kept)?;
        }
        self.remove_broken(pod, earlier.broken)?;
        let network = self.network()?;
        let list = &network.list;
        let attachment = Attachment::of_pod(pod, &list.name, &self.inherited_args)?;
        let own_portmap = self.own_portmap(list, pod);
        let missing = |source: FindPluginError| CniError::Find {
            network: list.name.clone(),
            source,
        };
        let chain =
            Chain::new(list, &network.plugins, &Choice::Preferred, own_portmap).map_err(missing)?;
        self.bring_up_loopback(&attachment)?;
        let mut entry = CachedAttachment {
            attachment,
            config: list.bytes.clone(),
            result: None,
            builtin: chain.builtin_types(),
            host_ports: own_portmap == OwnPortmap::Append,
            netns_id: Some(netns_id),
        };
        self.cache.store(&entry)?;
        let run = self.run(&entry.attachment, Some(&pod.netns), self.timeouts.add);
        let result = match chain.add(&run) {
            Ok(result) => result,
            Err(source) => return Err(self.undo(&entry, source)),
        };
        entry.result = Some(result.to_value(list.version));
        if let Err(error) = self.cache.store(&entry) {
            // Without its record the attachment could not be removed for certain: take it back now.
            self.remove(&entry, Fate::Kept)?;
            return Err(error.into());
        }
        Ok(AddResult {
            network: list.name.clone(),
            ips: result.pod_addresses(),
            result: result.to_value(SpecVersion::LATEST),
        })
    }

    /// Verifies a pod's attachment. Networks that have CHECK disabled pass.
    ///
    /// # Errors
    /// What differs; or that there is no record of the pod, or no CHECK in the network's version.
    pub fn check(&self, pod: &PodNetwork) -> Result<(), CniError> {
        check_names(pod)?;
        let entries = self.cache.of_container(&pod.id, &pod.ifname)?.entries;
        if entries.is_empty() {
            return Err(CniError::Unknown {
                id: pod.id.clone(),
                ifname: pod.ifname.clone(),
            });
        }
        for entry in &entries {
            let list = self.recorded_list(entry)?;
            let network = &entry.attachment.network;
            if list.disable_check {
                continue;
            }
            if list.version < SpecVersion::V0_4_0 {
                return Err(CniError::CheckUnsupported {
                    id: pod.id.clone(),
                    network: network.clone(),
                    version: list.version,
                });
            }
            let chain = self.recorded_chain(entry, &list)?;
            let run = self.run(&entry.attachment, Some(&pod.netns), self.timeouts.check);
            chain
                .check(&run, entry.result.as_ref())
                .map_err(|source| CniError::Check {
                    id: pod.id.clone(),
                    network: network.clone(),
                    source: Box::new(source),
                })?;
        }
        Ok(())
    }

    /// The default network as of now, or the fallback when nothing is configured.
    fn network(&self) -> Result<Network, NotReady> {
        if let Some(fallback) = &self.fallback
            && self.conf_dir.is_empty()?
        {
            let list = fallback.list().map_err(|error| NotReady {
                reason: error_chain(&error),
            })?;
            return Ok(Network {
                list: Arc::new(list),
                plugins: self.plugins.preferring_builtin(),
            });
        }
        let list = self
            .conf_dir
            .default_network(self.default_network.as_deref())?;
        Ok(Network {
            list,
            plugins: self.plugins.clone(),
        })
    }

    fn own_portmap(&self, list: &NetworkList, pod: &PodNetwork) -> OwnPortmap {
        if pod.port_mappings.is_empty() {
            OwnPortmap::No
        } else {
            self.portmap_behind(list)
        }
    }

    /// Whether host ports on this network are up to the built-in plugin.
    fn portmap_behind(&self, list: &NetworkList) -> OwnPortmap {
        let mut plugins = list.plugins.iter();
        let mapped_by_list = plugins.any(|plugin| plugin.has_capability("portMappings"));
        if self.host_ports == HostPorts::Left || mapped_by_list {
            OwnPortmap::No
        } else {
            OwnPortmap::Append
        }
    }

    /// Every pod gets its loopback interface, whatever the network's plugins do.
    fn bring_up_loopback(&self, attachment: &Attachment) -> Result<(), CniError> {
        let failed = |source| CniError::Loopback {
            id: attachment.container_id.clone(),
            source: Box::new(source),
        };
        let list = NetworkList::parse_list(
            Path::new("built-in loopback"),
            br#"{"cniVersion":"1.0.0","name":"cni-loopback","plugins":[{"type":"loopback"}]}"#,
        )
        .map_err(|error| {
            failed(PluginError::Garbage {
                plugin: "loopback".to_owned(),
                reason: error_chain(&error),
            })
        })?;
        let plugins = self.plugins.preferring_builtin();
        let chain = Chain::new(&list, &plugins, &Choice::Preferred, OwnPortmap::No)
            .map_err(|error| failed(error.into()))?;
        let loopback = Attachment {
            ifname: "lo".to_owned(),
            network: list.name.clone(),
            ..attachment.clone()
        };
        let run = self.run(&loopback, attachment.netns.as_deref(), self.timeouts.add);
        chain.add(&run).map(drop).map_err(failed)
    }

    fn run<'a>(
        &self,
        attachment: &'a Attachment,
        netns: Option<&'a Path>,
        timeout: Duration,
    ) -> Run<'a> {
        Run {
            attachment,
            netns,
            deadline: Instant::now() + timeout,
            history: History::None,
            fate: Fate::Kept,
        }
    }
}
