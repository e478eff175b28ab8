//! The runtime service: each rpc takes its request apart, asks the engine, and puts the answer together.

use std::{collections::HashMap, time::Duration};

use crioxide_cri_api::{
    EncodedList,
    v1::{self, runtime_service_server::RuntimeService as Service},
};
use crioxide_engine::{Engine, EngineError};
use crioxide_streaming::Streaming;
use tonic::{Request, Response, Status};

use crate::{
    rpc, status,
    stream::{self, Answers},
};

const SERVICE: &str = "RuntimeService";

/// Facts about the node that do not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// How cgroups are managed.
    pub cgroup_driver: v1::CgroupDriver,
    /// Configured handlers, the default one also under the empty name.
    pub handlers: Vec<v1::RuntimeHandler>,
    /// What the runtime as a whole supports.
    pub features: v1::RuntimeFeatures,
    /// Configuration for verbose status, as JSON.
    pub config: String,
}

/// `runtime.v1.RuntimeService`.
#[derive(Debug)]
pub(crate) struct Runtime {
    engine: Engine,
    node: NodeInfo,
    streaming: Streaming,
}

impl Runtime {
    pub(crate) fn new(engine: Engine, node: NodeInfo, streaming: Streaming) -> Self {
        Self {
            engine,
            node,
            streaming,
        }
    }

    async fn conditions(&self) -> v1::RuntimeStatus {
        let ready = v1::RuntimeCondition {
            r#type: "RuntimeReady".to_owned(),
            status: true,
            ..Default::default()
        };
        let mut network = v1::RuntimeCondition {
            r#type: "NetworkReady".to_owned(),
            status: true,
            ..Default::default()
        };
        if let Err(reason) = self.engine.network_ready().await {
            network.status = false;
            network.reason = "NetworkPluginNotReady".to_owned();
            network.message = format!("Network plugin returns error: {reason}");
        }
        v1::RuntimeStatus {
            conditions: vec![ready, network],
        }
    }
}

/// Seconds of a request; negative ones are refused.
fn seconds(value: i64, what: &str) -> Result<Duration, Status> {
    match u64::try_from(value) {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(Status::unknown(format!(
            "{what} must not be negative: {value}"
        ))),
    }
}

fn engine_result<T>(result: Result<T, EngineError>) -> Result<T, Status> {
    result.map_err(status::from_engine)
}

#[tonic::async_trait]
impl Service for Runtime {
    async fn version(
        &self,
        request: Request<v1::VersionRequest>,
    ) -> Result<Response<v1::VersionResponse>, Status> {
        rpc::unary(SERVICE, "Version", request, |_| async {
            Ok(self.engine.version())
        })
        .await
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        rpc::unary(SERVICE, "Status", request, |request| async move {
            let mut info = HashMap::new();
            if request.verbose {
                info.insert("config".to_owned(), self.node.config.clone());
            }
            Ok(v1::StatusResponse {
                status: Some(self.conditions().await),
                info,
                runtime_handlers: self.node.handlers.clone(),
                features: Some(self.node.features),
            })
        })
        .await
    }

    async fn runtime_config(
        &self,
        request: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        rpc::unary(SERVICE, "RuntimeConfig", request, |_| async {
            let driver = self.node.cgroup_driver.into();
            Ok(v1::RuntimeConfigResponse {
                linux: Some(v1::LinuxRuntimeConfiguration {
                    cgroup_driver: driver,
                }),
            })
        })
        .await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        rpc::unary(SERVICE, "UpdateRuntimeConfig", request, |_| async {
            Ok(v1::UpdateRuntimeConfigResponse {})
        })
        .await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        rpc::unary(SERVICE, "RunPodSandbox", request, |request| async move {
            let config = request.config.unwrap_or_default();
            let id = engine_result(self.engine.run_pod(config, request.runtime_handler).await)?;
            Ok(v1::RunPodSandboxResponse {
                pod_sandbox_id: id.to_string(),
            })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let deadline = crate::deadline::of_request(&request);
        rpc::unary(SERVICE, "StopPodSandbox", request, |request| async move {
            engine_result(
                self.engine
                    .stop_pod(&request.pod_sandbox_id, deadline)
                    .await,
            )?;
            Ok(v1::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        rpc::unary(SERVICE, "RemovePodSandbox", request, |request| async move {
            engine_result(self.engine.remove_pod(&request.pod_sandbox_id).await)?;
            Ok(v1::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        rpc::unary(SERVICE, "PodSandboxStatus", request, |request| async move {
            engine_result(
                self.engine
                    .pod_status(&request.pod_sandbox_id, request.verbose),
            )
        })
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<EncodedList<v1::PodSandbox>>, Status> {
        rpc::unary(SERVICE, "ListPodSandbox", request, |request| async move {
            Ok(self.engine.list_pods(request.filter.as_ref()))
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        rpc::unary(SERVICE, "CreateContainer", request, |request| async move {
            let id = engine_result(self.engine.create_container(request).await)?;
            Ok(v1::CreateContainerResponse {
                container_id: id.to_string(),
            })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        rpc::unary(SERVICE, "StartContainer", request, |request| async move {
            engine_result(self.engine.start_container(&request.container_id).await)?;
            Ok(v1::StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        rpc::unary(SERVICE, "StopContainer", request, |request| async move {
            let grace = seconds(request.timeout.max(0), "timeout")?;
            engine_result(
                self.engine
                    .stop_container(&request.container_id, grace)
                    .await,
            )?;
            Ok(v1::StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        rpc::unary(SERVICE, "RemoveContainer", request, |request| async move {
            engine_result(self.engine.remove_container(&request.container_id).await)?;
            Ok(v1::RemoveContainerResponse {})
        })
        .await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        rpc::unary(SERVICE, "ContainerStatus", request, |request| async move {
            engine_result(
                self.engine
                    .container_status(&request.container_id, request.verbose),
            )
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<EncodedList<v1::Container>>, Status> {
        rpc::unary(SERVICE, "ListContainers", request, |request| async move {
            Ok(self.engine.list_containers(request.filter.as_ref()))
        })
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        rpc::unary(
            SERVICE,
            "UpdateContainerResources",
            request,
            |request| async move {
                let resources = request.linux.unwrap_or_default();
                engine_result(
                    self.engine
                        .update_container(&request.container_id, resources)
                        .await,
                )?;
                Ok(v1::UpdateContainerResourcesResponse {})
            },
        )
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Result<Response<v1::ReopenContainerLogResponse>, Status> {
        rpc::unary(
            SERVICE,
            "ReopenContainerLog",
            request,
            |request| async move {
                engine_result(
                    self.engine
                        .reopen_container_log(&request.container_id)
                        .await,
                )?;
                Ok(v1::ReopenContainerLogResponse {})
            },
        )
        .await
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Result<Response<v1::ExecSyncResponse>, Status> {
        rpc::unary(SERVICE, "ExecSync", request, |request| async move {
            let timeout =
                Some(seconds(request.timeout, "timeout")?).filter(|timeout| !timeout.is_zero());
            engine_result(
                self.engine
                    .exec_sync(&request.container_id, &request.cmd, timeout)
                    .await,
            )
        })
        .await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Result<Response<v1::ContainerStatsResponse>, Status> {
        rpc::unary(SERVICE, "ContainerStats", request, |request| async move {
            let stats = engine_result(self.engine.container_stats(&request.container_id).await)?;
            Ok(v1::ContainerStatsResponse { stats: Some(stats) })
        })
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Result<Response<v1::ListContainerStatsResponse>, Status> {
        rpc::unary(
            SERVICE,
            "ListContainerStats",
            request,
            |request| async move {
                Ok(v1::ListContainerStatsResponse {
                    stats: self
                        .engine
                        .list_container_stats(request.filter.as_ref())
                        .await,
                })
            },
        )
        .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Result<Response<v1::PodSandboxStatsResponse>, Status> {
        rpc::unary(SERVICE, "PodSandboxStats", request, |request| async move {
            let stats = engine_result(self.engine.pod_stats(&request.pod_sandbox_id).await)?;
            Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
        })
        .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Result<Response<v1::ListPodSandboxStatsResponse>, Status> {
        rpc::unary(
            SERVICE,
            "ListPodSandboxStats",
            request,
            |request| async move {
                Ok(v1::ListPodSandboxStatsResponse {
                    stats: self.engine.list_pod_stats(request.filter.as_ref()).await,
                })
            },
        )
        .await
    }

    async fn exec(
        &self,
        request: Request<v1::ExecRequest>,
    ) -> Result<Response<v1::ExecResponse>, Status> {
        rpc::unary(SERVICE, "Exec", request, |request| async move {
            match self.streaming.exec(request) {
                Ok(url) => Ok(v1::ExecResponse { url }),
                Err(refusal) => Err(status::from_refusal("exec", &refusal)),
            }
        })
        .await
    }

    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        rpc::unary(SERVICE, "Attach", request, |request| async move {
            match self.streaming.attach(request) {
                Ok(url) => Ok(v1::AttachResponse { url }),
                Err(refusal) => Err(status::from_refusal("attach", &refusal)),
            }
        })
        .await
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Result<Response<v1::PortForwardResponse>, Status> {
        rpc::unary(SERVICE, "PortForward", request, |request| async move {
            match self.streaming.port_forward(request) {
                Ok(url) => Ok(v1::PortForwardResponse { url }),
                Err(refusal) => Err(status::from_refusal("portforward", &refusal)),
            }
        })
        .await
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Result<Response<v1::CheckpointContainerResponse>, Status> {
        rpc::unary(
            SERVICE,
            "CheckpointContainer",
            request,
            |request| async move {
                let taken = self.engine.checkpoint_container(
                    &request.container_id,
                    &request.location,
                    request.timeout,
                );
                engine_result(taken.await)?;
                Ok(v1::CheckpointContainerResponse {})
            },
        )
        .await
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Result<Response<v1::ListMetricDescriptorsResponse>, Status> {
        rpc::unary(SERVICE, "ListMetricDescriptors", request, |_| async {
            Ok(v1::ListMetricDescriptorsResponse {
                descriptors: self.engine.metric_descriptors(),
            })
        })
        .await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<v1::ListPodSandboxMetricsResponse>, Status> {
        rpc::unary(SERVICE, "ListPodSandboxMetrics", request, |_| async {
            Ok(v1::ListPodSandboxMetricsResponse {
                pod_metrics: self.engine.pod_metrics().await,
            })
        })
        .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<v1::UpdatePodSandboxResourcesResponse>, Status> {
        rpc::unary(
            SERVICE,
            "UpdatePodSandboxResources",
            request,
            |request| async move {
                engine_result(self.engine.update_pod(&request.pod_sandbox_id))?;
                Ok(v1::UpdatePodSandboxResourcesResponse {})
            },
        )
        .await
    }

    type StreamPodSandboxesStream = Answers<EncodedList<v1::PodSandbox>>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        let pods = self.engine.list_pods(request.into_inner().filter.as_ref());
        Ok(Response::new(stream::encoded_chunks(&pods)))
    }

    type StreamContainersStream = Answers<EncodedList<v1::Container>>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        let containers = self
            .engine
            .list_containers(request.into_inner().filter.as_ref());
        Ok(Response::new(stream::encoded_chunks(&containers)))
    }

    type StreamContainerStatsStream = Answers<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        let items = self
            .engine
            .list_container_stats(request.into_inner().filter.as_ref())
            .await;
        let wrap = |container_stats| v1::StreamContainerStatsResponse { container_stats };
        Ok(Response::new(stream::chunks(items, wrap)))
    }

    type StreamPodSandboxStatsStream = Answers<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        let items = self
            .engine
            .list_pod_stats(request.into_inner().filter.as_ref())
            .await;
        let wrap = |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats };
        Ok(Response::new(stream::chunks(items, wrap)))
    }

    type GetContainerEventsStream = Answers<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _request: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        // Without pod events the stream ends at once, and the kubelet falls back to listing.
        Ok(Response::new(stream::events(self.engine.events())))
    }

    type StreamPodSandboxMetricsStream = Answers<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        let items = self.engine.pod_metrics().await;
        let wrap = |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        };
        Ok(Response::new(stream::chunks(items, wrap)))
    }
}
