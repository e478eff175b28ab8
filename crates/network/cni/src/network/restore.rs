//! Making again what the host lost.

use super::Cni;
use super::namespace::still_there;
use crate::{Attachment, CacheError, CachedAttachment, CniError, PluginError};

impl Cni {
    /// Lets the built-in plugins make again the packet rules of every attached pod, where they are
    /// missing. For the start of the daemon, and for whenever somebody reloaded the firewall.
    /// Returns what could not be made.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn restore(&self) -> Result<Vec<(Attachment, PluginError)>, CacheError> {
        let mut failures = Vec::new();
        let mut busy = Vec::new();
        for entry in self.cache.list()? {
            if !entry.attachment.is_pod() || entry.result.is_none() {
                continue;
            }
            match self.gates.try_enter(&entry.attachment.container_id) {
                Some(_gate) => self.restore_one(entry, &mut failures),
                None => busy.push(entry),
            }
        }
        // These are being attached or removed; a rule they had made may be gone as well.
        for entry in busy {
            let _gate = self.gates.enter(&entry.attachment.container_id);
            self.restore_one(entry, &mut failures);
        }
        Ok(failures)
    }

    /// The pod's gate is held.
    fn restore_one(&self, entry: CachedAttachment, failures: &mut Vec<(Attachment, PluginError)>) {
        let attachment = &entry.attachment;
        let netns = still_there(attachment.netns.as_deref(), entry.netns_id);
        let Some(result) = entry
            .result
            .as_ref()
            .filter(|_| netns.is_some() && self.cache.holds(attachment))
        else {
            return;
        };
        let run = self.run(attachment, netns, self.timeouts.check);
        let restored = self.recorded_list(&entry).and_then(|list| {
            let chain = self.recorded_chain(&entry, &list)?;
            Ok::<_, CniError>(chain.restore(&run, result))
        });
        match restored {
            Ok(failed) => {
                failures.extend(failed.into_iter().map(|error| (attachment.clone(), error)))
            }
            // A plugin is missing or the record damaged: removal will say so.
            Err(error) => {
                tracing::debug!(%error, pod = %attachment.container_id, "rules not looked at")
            }
        }
    }
}
