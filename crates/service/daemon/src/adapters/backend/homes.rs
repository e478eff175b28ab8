//! Where pods live, and their monitors, started when they are first needed.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use crioxide_engine::ports::{PodHome, PortResult, RecordDirs};
use crioxide_monitor_client::{Monitor, MonitorConfig};
use crioxide_names::PodId;

use super::Processes;
use crate::{blocking, pod_cgroup};

/// Socket of a pod's monitor, in the pod's run directory.
pub(super) fn monitor_socket(dirs: &RecordDirs) -> PathBuf {
    dirs.run.join("monitor.sock")
}

/// The pods that may need a monitor.
#[derive(Debug, Default)]
pub(super) struct Homes(Mutex<HashMap<PodId, Arc<Place>>>);

/// A pod's home with the turn to start its monitor, which must not be done twice: the later one would take the socket.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) home: PodHome,
    starting: tokio::sync::Mutex<()>,
}

impl Homes {
    pub(super) fn remember(&self, pod: &PodId, home: &PodHome) {
        let place = Arc::new(Place {
            home: home.clone(),
            starting: tokio::sync::Mutex::default(),
        });
        let mut all = self.0.lock().expect("no holder of this lock panics");
        all.entry(pod.clone()).or_insert(place);
    }

    pub(super) fn forget(&self, pod: &PodId) {
        let mut all = self.0.lock().expect("no holder of this lock panics");
        all.remove(pod);
    }

    pub(super) fn of(&self, pod: &PodId) -> Option<Arc<Place>> {
        let all = self.0.lock().expect("no holder of this lock panics");
        all.get(pod).cloned()
    }
}

impl Processes {
    /// The pod's monitor. Where conmon watches the containers, or the monitor died, one is started: it runs processes
    /// in containers that are not its own, and can make new ones.
    pub(super) async fn monitor_of(&self, pod: &PodId) -> PortResult<Monitor> {
        if let Ok(monitor) = self.monitors.of(pod) {
            return Ok(monitor);
        }
        let place = self
            .homes
            .of(pod)
            .ok_or_else(|| format!("pod {pod} is gone"))?;
        let _turn = place.starting.lock().await;
        if let Ok(monitor) = self.monitors.of(pod) {
            return Ok(monitor);
        }
        let home = &place.home;
        let (has_conmons, monitor_cgroup) = self.watching(&home.handler)?;
        // The infra container's conmon has the plain name.
        let name = match has_conmons {
            true => format!("{pod}-exec"),
            false => pod.to_string(),
        };
        let cgroup = pod_cgroup::monitor_cgroup(
            monitor_cgroup,
            self.settings.driver,
            &home.cgroup_parent,
            &name,
        )?;
        if let Some(own) = cgroup.as_ref().filter(|cgroup| !cgroup.existing) {
            let (run, path) = (home.dirs.run.clone(), own.path.clone());
            blocking::run(move || pod_cgroup::note_monitor(&run, &path)).await?;
        }
        let config = MonitorConfig {
            pod: pod.to_string(),
            socket: monitor_socket(&home.dirs),
            cgroup,
        };
        self.monitors.spawn(pod, config).await?;
        self.monitors.of(pod)
    }

    /// Whether conmons watch the containers of a handler, and its `monitor_cgroup`.
    pub(super) fn watching(&self, handler: &str) -> PortResult<(bool, &str)> {
        match self.settings.shims.get(handler) {
            Some(monitor_cgroup) => Ok((false, monitor_cgroup)),
            None => {
                let handler = self.usual_handler(handler)?;
                Ok((handler.conmon.is_some(), &handler.monitor_cgroup))
            }
        }
    }

    /// The monitor that takes the place of `monitor`, when a request was `unsent` because that one had just died. A
    /// request is handed on once: a pod whose monitors keep dying is not to start ever more of them.
    pub(super) async fn successor(
        &self,
        pod: &PodId,
        monitor: &Monitor,
        unsent: bool,
    ) -> PortResult<Option<Monitor>> {
        if !unsent || !self.monitors.left(pod, monitor).await {
            return Ok(None);
        }
        self.monitor_of(pod).await.map(Some)
    }
}
