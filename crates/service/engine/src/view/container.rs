//! Containers in lists and statuses.

use crioxide_cri_api::{Encoded, EncodedList, v1};
use crioxide_node_records::{ContainerState, annotations::values::Volume, go_time};

use crate::{
    Engine, EngineError,
    container::{Container, cri_state},
    ops::stop_signal,
    ports::CheckpointSupport,
    view::{
        filter::{id_matches, labels_match},
        pod::pairs,
    },
};

impl Engine {
    /// Containers that match a filter.
    #[must_use]
    pub fn list_containers(
        &self,
        filter: Option<&v1::ContainerFilter>,
    ) -> EncodedList<v1::Container> {
        let all = self.inner.containers.all();
        all.iter()
            .filter(|c| filter.is_none_or(|f| matches(c, f)))
            .map(|c| {
                let state = c.cri_state();
                c.entry.of(state, || Encoded::new(&item(c, state)))
            })
            .collect()
    }

    /// A container's status; `verbose` adds its process and OCI spec.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<v1::ContainerStatusResponse, EngineError> {
        let container = self.find_container(id)?;
        let mut response = v1::ContainerStatusResponse {
            status: Some(status(&container)),
            ..Default::default()
        };
        if verbose {
            let state = container.state.borrow().clone();
            let mut info = serde_json::json!({
                "sandboxID": container.pod.as_str(),
                "pid": state.init_pid,
                "runtimeSpec": &*container.spec,
                "privileged": container.privileged,
            });
            if self.inner.settings.checkpoints != CheckpointSupport::None {
                info["checkpointedAt"] = go_time::format(state.checkpointed_time).into();
                info["restored"] = state.restored.into();
            }
            response.info.insert("info".to_owned(), info.to_string());
        }
        Ok(response)
    }
}

fn matches(container: &Container, filter: &v1::ContainerFilter) -> bool {
    id_matches(container.id.as_str(), &filter.id)
        && id_matches(container.pod.as_str(), &filter.pod_sandbox_id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state == container.cri_state() as i32)
        && labels_match(&container.info.labels, &filter.label_selector)
}

fn item(container: &Container, state: v1::ContainerState) -> v1::Container {
    let info = &container.info;
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod.to_string(),
        metadata: Some((&info.metadata).into()),
        image: Some(v1::ImageSpec {
            image: info.image.clone(),
            ..Default::default()
        }),
        image_ref: image_ref(container),
        state: state.into(),
        created_at: go_time::unix_nanoseconds(info.created),
        labels: pairs(&info.labels),
        annotations: pairs(&info.annotations),
        image_id: info.image_ref.clone(),
    }
}

/// First repository digest, else the image id.
fn image_ref(container: &Container) -> String {
    container
        .info
        .image_repo_digests
        .first()
        .unwrap_or(&container.info.image_ref)
        .clone()
}

pub(crate) fn status(container: &Container) -> v1::ContainerStatus {
    let state = container.state.borrow().clone();
    status_in(container, &state)
}

/// The status it had or has in `state`.
pub(crate) fn status_in(container: &Container, state: &ContainerState) -> v1::ContainerStatus {
    let info = &container.info;
    let cri = cri_state(state);
    let (running, exited) = (
        cri == v1::ContainerState::ContainerRunning,
        cri == v1::ContainerState::ContainerExited,
    );
    let (reason, message) = if exited {
        reason(state)
    } else {
        Default::default()
    };
    v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some((&info.metadata).into()),
        state: cri.into(),
        created_at: go_time::unix_nanoseconds(info.created),
        started_at: if running || exited {
            go_time::unix_nanoseconds(state.started)
        } else {
            0
        },
        finished_at: if exited {
            go_time::unix_nanoseconds(state.finished)
        } else {
            0
        },
        exit_code: if exited {
            state.exit_code.unwrap_or(-1)
        } else {
            0
        },
        image: Some(v1::ImageSpec {
            image: info.image_name.clone(),
            ..Default::default()
        }),
        image_ref: image_ref(container),
        reason,
        message,
        labels: pairs(&info.labels),
        annotations: pairs(&info.annotations),
        mounts: info.volumes.iter().map(mount).collect(),
        log_path: info.log_path.clone(),
        resources: Some(v1::ContainerResources {
            linux: Some(
                container
                    .resources
                    .read()
                    .expect("no holder of this lock panics")
                    .clone(),
            ),
            windows: None,
        }),
        image_id: info.image_ref.clone(),
        user: user(container),
        stop_signal: cri_signal(stop_signal(container)).into(),
    }
}

/// A signal by its number on Linux.
fn cri_signal(number: i32) -> v1::Signal {
    use v1::Signal as S;
    const PLAIN: [S; 31] = [
        S::Sighup,
        S::Sigint,
        S::Sigquit,
        S::Sigill,
        S::Sigtrap,
        S::Sigabrt,
        S::Sigbus,
        S::Sigfpe,
        S::Sigkill,
        S::Sigusr1,
        S::Sigsegv,
        S::Sigusr2,
        S::Sigpipe,
        S::Sigalrm,
        S::Sigterm,
        S::Sigstkflt,
        S::Sigchld,
        S::Sigcont,
        S::Sigstop,
        S::Sigtstp,
        S::Sigttin,
        S::Sigttou,
        S::Sigurg,
        S::Sigxcpu,
        S::Sigxfsz,
        S::Sigvtalrm,
        S::Sigprof,
        S::Sigwinch,
        S::Sigio,
        S::Sigpwr,
        S::Sigsys,
    ];
    let index = usize::try_from(number - 1).ok();
    match index.and_then(|index| PLAIN.get(index)) {
        Some(signal) => *signal,
        // Real-time signals are numbered without a gap in both.
        None if (34..=64).contains(&number) => {
            S::try_from(S::Sigrtmin as i32 + number - 34).unwrap_or(S::RuntimeDefault)
        }
        None => S::RuntimeDefault,
    }
}

/// Reason and message of an exit.
fn reason(state: &ContainerState) -> (String, String) {
    let reason = match state {
        _ if state.oom_killed => "OOMKilled",
        _ if state.seccomp_killed => {
            return ("seccomp killed".to_owned(), state.error.clone());
        }
        _ if state.exit_code == Some(0) => "Completed",
        _ => return ("Error".to_owned(), state.error.clone()),
    };
    (reason.to_owned(), String::new())
}

fn mount(volume: &Volume) -> v1::Mount {
    v1::Mount {
        container_path: volume.container_path.clone(),
        host_path: volume.host_path.clone(),
        readonly: volume.readonly,
        selinux_relabel: volume.selinux_relabel,
        propagation: volume.propagation,
        recursive_read_only: volume.recursive_read_only,
        image: volume.image.as_ref().map(|image| v1::ImageSpec {
            image: image.image.clone(),
            user_specified_image: image.user_specified_image.clone(),
            image_ref: image.image.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn user(container: &Container) -> Option<v1::ContainerUser> {
    let process = container.spec.process().as_ref()?;
    let user = process.user();
    let groups = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|gid| i64::from(*gid))
        .collect();
    Some(v1::ContainerUser {
        linux: Some(v1::LinuxContainerUser {
            uid: user.uid().into(),
            gid: user.gid().into(),
            supplemental_groups: groups,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number() {
        for (number, name) in [
            (1, "SIGHUP"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
            (34, "SIGRTMIN"),
            (37, "SIGRTMINPLUS3"),
            (50, "SIGRTMAXMINUS14"),
            (64, "SIGRTMAX"),
            (0, "RUNTIME_DEFAULT"),
            (33, "RUNTIME_DEFAULT"),
        ] {
            assert_eq!(cri_signal(number).as_str_name(), name, "{number}");
        }
    }
}
