//! Detaching pods, also those nobody remembers.

use std::time::Instant;

use serde_json::json;

use super::Cni;
use super::namespace::{namespace_at, still_there};
use crate::attachment::check_names;
use crate::error::chain as error_chain;
use crate::plugin::chain::{Chain, Choice, OwnPortmap, Run};
use crate::plugin::orphans;
use crate::{
    Attachment, CacheError, CachedAttachment, CniError, Fate, History, NetworkList, PluginError,
    PodNetwork,
};

/// What [`Cni::gc`] did.
#[derive(Debug, Default)]
pub struct GcReport {
    /// Attachments that were removed.
    pub removed: Vec<Attachment>,
    /// Attachments that could not be removed and stay on record, each with the reason.
    pub kept: Vec<(Attachment, CniError)>,
    /// Failures of the plugins' own GC, by network.
    pub failures: Vec<(String, PluginError)>,
    /// There was no usable network, or pods were being attached: no plugin's own GC has run.
    pub not_ready: bool,
    /// Plugins of an earlier daemon that were still at work, and were ended.
    pub killed: usize,
}

enum Collected {
    Done(Vec<(String, PluginError)>),
    NotReady,
}

impl Cni {
    /// Detaches a pod from every network it is on record for, with the configuration and result of
    /// its ADD. Without a record the default network's DEL is run, in case another runtime attached
    /// it. Succeeds when the namespace is gone.
    ///
    /// The caller drops the namespace right after: links inside are left to die with it.
    ///
    /// # Errors
    /// What each failing plugin said. The attachment stays on record.
    pub fn del(&self, pod: &PodNetwork) -> Result<(), CniError> {
        check_names(pod)?;
        let _gate = self.gates.enter(&pod.id);
        let found = self.cache.of_container(&pod.id, &pod.ifname)?;
        if found.entries.is_empty() && found.broken.is_empty() {
            return self.del_unrecorded(pod);
        }
        end_orphans(&found.entries);
        let mut failure = None;
        for entry in &found.entries {
            if let Err(error) = self.remove(entry, Fate::Discarded) {
                failure.get_or_insert(error);
            }
        }
        if let Err(error) = self.remove_broken(pod, found.broken) {
            failure.get_or_insert(error);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Removes what is on record of a container's interface, for a removal that failed before.
    /// Whether the namespace still lives is not known. Nothing on record is success.
    ///
    /// # Errors
    /// What each failing plugin said. The attachment stays on record.
    pub fn del_again(&self, container_id: &str, ifname: &str) -> Result<(), CniError> {
        let _gate = self.gates.enter(container_id);
        let found = self.cache.of_container(container_id, ifname)?;
        end_orphans(&found.entries);
        let mut failure = None;
        for entry in &found.entries {
            if let Err(error) = self.remove(entry, Fate::Kept) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Removes an attachment whose record says nothing any more: by the default network.
    pub(super) fn remove_broken(
        &self,
        pod: &PodNetwork,
        broken: Vec<std::path::PathBuf>,
    ) -> Result<(), CniError> {
        if broken.is_empty() {
            return Ok(());
        }
        self.del_unrecorded(pod)?;
        for path in broken {
            self.cache.remove_broken(path)?;
        }
        Ok(())
    }

    /// Everything on record, complete or only intended.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn attachments(&self) -> Result<Vec<CachedAttachment>, CacheError> {
        self.cache.list()
    }

    /// Removes the pods' attachments that `keep` does not want, and lets plugins free what belongs
    /// to no attachment. Attachments of other tools than Kubernetes runtimes are never touched; two
    /// runtimes that share the directory must each keep the other's.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn gc(&self, keep: &dyn Fn(&CachedAttachment) -> bool) -> Result<GcReport, CacheError> {
        let mut report = GcReport::default();
        self.cache.remove_temporaries()?;
        let left: Vec<_> = self
            .cache
            .list()?
            .into_iter()
            .filter(|entry| entry.attachment.is_pod() && !keep(entry))
            .collect();
        report.killed = end_orphans(&left);
        for entry in left {
            let _gate = self.gates.enter(&entry.attachment.container_id);
            match self.remove(&entry, Fate::Kept) {
                Ok(()) => report.removed.push(entry.attachment),
                Err(error) => report.kept.push((entry.attachment, error)),
            }
        }
        match self.collect()? {
            Collected::Done(failures) => report.failures = failures,
            Collected::NotReady => report.not_ready = true,
        }
        Ok(report)
    }

    /// Runs the GC verb of the default network, and of no other: whose attachments are not on record
    /// here is not known of others.
    fn collect(&self) -> Result<Collected, CacheError> {
        let Ok(_nobody_attaches) = self.attaching.try_write() else {
            return Ok(Collected::NotReady);
        };
        let Ok(network) = self.network() else {
            return Ok(Collected::NotReady);
        };
        let list = &network.list;
        if list.disable_gc {
            return Ok(Collected::Done(Vec::new()));
        }
        let valid = self.valid_attachments(&list.name)?;
        let Ok(chain) = Chain::new(
            list,
            &network.plugins,
            &Choice::Preferred,
            self.portmap_behind(list),
        ) else {
            return Ok(Collected::NotReady);
        };
        let nobody = Attachment::nobody(&list.name);
        let failures = chain.gc(&self.run(&nobody, None, self.timeouts.check), &valid);
        Ok(Collected::Done(
            failures
                .into_iter()
                .map(|error| (list.name.clone(), error))
                .collect(),
        ))
    }

    /// Runs the DEL that belongs to a record, and removes the record when all plugins succeeded.
    pub(super) fn remove(&self, entry: &CachedAttachment, fate: Fate) -> Result<(), CniError> {
        let list = self.recorded_list(entry)?;
        let chain = self.recorded_chain(entry, &list)?;
        let attachment = &entry.attachment;
        let netns = still_there(attachment.netns.as_deref(), entry.netns_id);
        let run = Run {
            fate,
            ..self.run(attachment, netns, self.timeouts.del)
        };
        let failures = chain.del(&run, entry.result.as_ref());
        if failures.is_empty() {
            return Ok(self.cache.remove(attachment)?);
        }
        let failures: Vec<_> = failures.iter().map(|error| error_chain(error)).collect();
        Err(CniError::Del {
            id: attachment.container_id.clone(),
            network: attachment.network.clone(),
            failures: failures.join("; "),
        })
    }

    /// Takes back a failed ADD.
    pub(super) fn undo(&self, entry: &CachedAttachment, source: PluginError) -> CniError {
        let undo = self
            .remove(entry, Fate::Kept)
            .err()
            .map(|error| error_chain(&error));
        CniError::Add {
            id: entry.attachment.container_id.clone(),
            network: entry.attachment.network.clone(),
            source: Box::new(source),
            undo,
        }
    }

    pub(super) fn recorded_list(&self, entry: &CachedAttachment) -> Result<NetworkList, CniError> {
        let path = std::path::Path::new("recorded configuration");
        let parsed = NetworkList::parse_list(path, &entry.config).or_else(|error| {
            // ocicni records single-plugin configurations unwrapped.
            NetworkList::parse_single(path, &entry.config).map_err(|_| error)
        });
        parsed.map_err(|source| CniError::RecordedConfig {
            id: entry.attachment.container_id.clone(),
            source: Box::new(source),
        })
    }

    pub(super) fn recorded_chain<'a>(
        &'a self,
        entry: &CachedAttachment,
        list: &'a NetworkList,
    ) -> Result<Chain<'a>, CniError> {
        let own_portmap = if entry.host_ports {
            OwnPortmap::Append
        } else {
            OwnPortmap::No
        };
        Chain::new(
            list,
            &self.plugins,
            &Choice::Recorded(&entry.builtin),
            own_portmap,
        )
        .map_err(|source| CniError::Find {
            network: list.name.clone(),
            source,
        })
    }

    /// A pod that is not on record: another runtime may have attached it, or its record was lost.
    fn del_unrecorded(&self, pod: &PodNetwork) -> Result<(), CniError> {
        let Ok(network) = self.network() else {
            return Ok(());
        };
        let list = &network.list;
        let attachment = Attachment::of_pod(pod, &list.name, &self.inherited_args)?;
        let chain = Chain::new(
            list,
            &network.plugins,
            &Choice::Preferred,
            self.own_portmap(list, pod),
        )
        .map_err(|source| CniError::Find {
            network: list.name.clone(),
            source,
        })?;
        let netns = Some(pod.netns.as_path()).filter(|path| namespace_at(path).is_ok());
        let run = Run {
            attachment: &attachment,
            netns,
            deadline: Instant::now() + self.timeouts.del,
            history: History::Unknown,
            fate: Fate::Discarded,
        };
        let failures: Vec<_> = chain
            .del(&run, None)
            .iter()
            .map(|error| error_chain(error))
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        Err(CniError::Del {
            id: pod.id.clone(),
            network: list.name.clone(),
            failures: failures.join("; "),
        })
    }

    /// Attachments of a network that are on record, as the GC verb wants them.
    fn valid_attachments(&self, network: &str) -> Result<serde_json::Value, CacheError> {
        let all = self.cache.list()?;
        let valid = all
            .iter()
            .map(|entry| &entry.attachment)
            .filter(|attachment| attachment.network == network);
        Ok(valid
            .map(|attachment| json!({"containerID": attachment.container_id, "ifname": attachment.ifname}))
            .collect())
    }
}

/// Ends plugins of an earlier daemon that still work on attachments whose ADD never finished: they
/// must not go on making what is about to be removed. Returns how many there were.
fn end_orphans(entries: &[CachedAttachment]) -> usize {
    let unfinished: Vec<_> = entries
        .iter()
        .filter(|entry| entry.result.is_none())
        .map(|entry| &entry.attachment)
        .collect();
    let killed = orphans::kill(&unfinished);
    if killed > 0 {
        tracing::warn!("Ended {killed} CNI plugins that an earlier daemon had left running");
    }
    killed
}
