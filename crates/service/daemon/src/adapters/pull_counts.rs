//! What pulls add to the metrics.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crioxide_metrics::{Metrics, size_class};
use crioxide_pull::{LayerState, Progress, ProgressEvent};

/// The media type that CRI-O counts layers of any compression under when it does not know better.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Listens to one pull.
#[derive(Debug)]
pub(crate) struct PullCounts {
    metrics: &'static Metrics,
    image: String,
    /// Layers that were counted, by position.
    counted: Mutex<HashSet<usize>>,
}

impl PullCounts {
    pub(crate) fn new(image: &str) -> Self {
        Self {
            metrics: crioxide_metrics::get(),
            image: image.to_owned(),
            counted: Mutex::default(),
        }
    }

    /// Counts the end; `error` is the failure in words.
    pub(crate) fn ended(&self, error: Option<&str>) {
        match error {
            None => self.metrics.pull_successes.add_one(),
            Some(error) => self.metrics.pull_failures.add_one([failure(error)]),
        }
    }
}

impl Progress for PullCounts {
    fn report(&self, event: &ProgressEvent) {
        let ProgressEvent::Layer {
            index,
            digest,
            total,
            state,
            ..
        } = event
        else {
            return;
        };
        if *state == LayerState::Fetching {
            return;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if !counted.insert(*index) {
            return;
        }
        if *state == LayerState::Reused {
            let name = format!("{}@{digest}", self.image);
            self.metrics.reused_layers.add_one([&name]);
        } else {
            let class = [LAYER, size_class(*total)];
            self.metrics.pulled_bytes.add(class, *total);
            self.metrics.layer_sizes.observe(*total);
        }
    }
}

/// The kind of a failure: a registry's own code if there is one in the text.
fn failure(text: &str) -> &'static str {
    const KNOWN: [(&str, &str); 14] = [
        ("Connection refused", "CONNECTION_REFUSED"),
        ("connection refused", "CONNECTION_REFUSED"),
        ("timed out", "CONNECTION_TIMEOUT"),
        ("MANIFEST_UNKNOWN", "MANIFEST_UNKNOWN"),
        ("manifest unknown", "MANIFEST_UNKNOWN"),
        ("NAME_UNKNOWN", "NAME_UNKNOWN"),
        ("BLOB_UNKNOWN", "BLOB_UNKNOWN"),
        ("UNAUTHORIZED", "UNAUTHORIZED"),
        ("401", "UNAUTHORIZED"),
        ("DENIED", "DENIED"),
        ("403", "DENIED"),
        ("TOOMANYREQUESTS", "TOOMANYREQUESTS"),
        ("429", "TOOMANYREQUESTS"),
        ("404", "NOT_FOUND"),
    ];
    let known = KNOWN.iter().find(|(part, _)| text.contains(part));
    known.map_or("UNKNOWN", |(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_failures() {
        assert_eq!(
            failure("pull x: Connection refused (os error 111)"),
            "CONNECTION_REFUSED"
        );
        assert_eq!(
            failure("registry answered 401 Unauthorized"),
            "UNAUTHORIZED"
        );
        assert_eq!(
            failure("404 Not Found: MANIFEST_UNKNOWN"),
            "MANIFEST_UNKNOWN"
        );
        assert_eq!(failure("disk full"), "UNKNOWN");
    }
}
