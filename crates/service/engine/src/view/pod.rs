//! Pods in lists and statuses.

use std::collections::HashMap;

use crioxide_cri_api::{Encoded, EncodedList, v1};
use crioxide_node_records::go_time;

use crate::{
    Engine, EngineError,
    ops::now_nanoseconds,
    pod::Pod,
    view::filter::{id_matches, labels_match},
};

impl Engine {
    /// Pods that match a filter.
    #[must_use]
    pub fn list_pods(&self, filter: Option<&v1::PodSandboxFilter>) -> EncodedList<v1::PodSandbox> {
        self.inner
            .pods
            .all()
            .iter()
            .filter(|pod| filter.is_none_or(|f| pod_matches(pod, f)))
            .map(|pod| {
                let state = pod.state();
                pod.entry.of(state, || Encoded::new(&item(pod, state)))
            })
            .collect()
    }

    /// A pod's status; `verbose` adds its OCI spec.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pod_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<v1::PodSandboxStatusResponse, EngineError> {
        let pod = self.find_pod(id)?;
        let mut response = v1::PodSandboxStatusResponse::default();
        if self.inner.settings.pod_events {
            // Before the look at the states: what happens meanwhile comes as a younger event.
            response.timestamp = now_nanoseconds();
            response.containers_statuses = self.statuses_of(&pod, None);
        }
        response.status = Some(status(&pod));
        if verbose {
            response.info.insert("info".to_owned(), verbose_info(&pod));
        }
        Ok(response)
    }
}

fn pod_matches(pod: &Pod, filter: &v1::PodSandboxFilter) -> bool {
    id_matches(pod.id.as_str(), &filter.id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state == pod.state() as i32)
        && labels_match(&pod.info.labels, &filter.label_selector)
}

fn item(pod: &Pod, state: v1::PodSandboxState) -> v1::PodSandbox {
    v1::PodSandbox {
        id: pod.id.to_string(),
        metadata: Some((&pod.info.metadata).into()),
        state: state.into(),
        created_at: go_time::unix_nanoseconds(pod.info.created),
        labels: pairs(&pod.info.labels),
        annotations: pairs(&pod.info.annotations),
        runtime_handler: pod.info.runtime_handler.clone(),
    }
}

pub(crate) fn status(pod: &Pod) -> v1::PodSandboxStatus {
    let mut ips = if pod.info.host_network {
        [].iter()
    } else {
        pod.info.ips.iter()
    };
    v1::PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: Some((&pod.info.metadata).into()),
        state: pod.state().into(),
        created_at: go_time::unix_nanoseconds(pod.info.created),
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().cloned().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip: ip.clone() }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some((&pod.info.namespace_options).into()),
            }),
        }),
        labels: pairs(&pod.info.labels),
        annotations: pairs(&pod.info.annotations),
        runtime_handler: pod.info.runtime_handler.clone(),
    }
}

fn verbose_info(pod: &Pod) -> String {
    let spec: serde_json::Value = serde_json::from_str(&pod.spec).unwrap_or_default();
    match &pod.pause {
        Some(pause) => serde_json::json!({"image": pod.info.image, "pid": pause.process.pid, "runtimeSpec": spec}),
        None => serde_json::json!({"runtimeSpec": spec}),
    }
    .to_string()
}

/// A record's map as CRI's.
pub(crate) fn pairs(map: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
