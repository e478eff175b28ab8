//! A container as the inspect endpoint tells it.

use std::collections::BTreeMap;

use crioxide_node_records::go_time;

use crate::{Engine, EngineError, ErrorKind, index::LookupError};

impl Engine {
    /// A container, or a pod as the infra container it stands for, as CRI-O's `/containers/{id}` shows it (JSON).
    ///
    /// # Errors
    /// `NotFound`.
    pub fn inspect(&self, id: &str) -> Result<serde_json::Value, EngineError> {
        let unknown = || {
            let text = format!("can't find the container with id {id}");
            EngineError::new(ErrorKind::NotFound, text)
        };
        match self.inner.containers.find(id) {
            Ok(container) => {
                let (info, state) = (&container.info, container.state.borrow().clone());
                let pod = self.inner.pods.get(container.pod.as_str());
                let (ips, host_network) = match &pod {
                    Some(pod) => (pod.info.ips.clone(), pod.info.host_network),
                    None => (info.ips.clone(), false),
                };
                let annotations = container.spec.annotations().clone().unwrap_or_default();
                Ok(serde_json::json!({
                    "name": info.name,
                    "pid": state.init_pid,
                    "image": info.image_name,
                    "image_ref": info.image_ref,
                    "created_time": go_time::unix_nanoseconds(info.created),
                    "labels": info.labels,
                    "annotations": info.annotations,
                    "crio_annotations": annotations.into_iter().collect::<BTreeMap<_, _>>(),
                    "log_path": info.log_path,
                    "root": info.mount_point,
                    "sandbox": container.pod.as_str(),
                    "ip_addresses": ips,
                    "host_network": host_network,
                }))
            }
            Err(LookupError::NotFound { .. }) => {
                let pod = self.inner.pods.find(id).map_err(|_| unknown())?;
                let info = &pod.info;
                let spec: serde_json::Value = serde_json::from_str(&pod.spec).unwrap_or_default();
                Ok(serde_json::json!({
                    "name": info.name,
                    "pid": pod.pause.as_ref().map_or(0, |pause| pause.process.pid),
                    "image": info.image,
                    "image_ref": info.image,
                    "created_time": go_time::unix_nanoseconds(info.created),
                    "labels": info.labels,
                    "annotations": info.annotations,
                    "crio_annotations": spec.get("annotations"),
                    "log_path": info.log_path,
                    "root": "",
                    "sandbox": pod.id.as_str(),
                    "ip_addresses": info.ips,
                    "host_network": info.host_network,
                }))
            }
            Err(error) => Err(EngineError::refused(error.to_string())),
        }
    }
}
