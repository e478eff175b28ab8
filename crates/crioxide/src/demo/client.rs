//! The calls that the demo makes, over the daemon's socket as any other client's.

use std::path::Path;

use anyhow::Context as _;
use crioxide_cri_api::v1;
use crioxide_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Endpoint};

/// A client of the runtime service.
#[derive(Debug, Clone)]
pub(super) struct Client(RuntimeServiceClient<Channel>);

impl Client {
    pub(super) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .context("name the socket")?;
        let channel = endpoint
            .connect()
            .await
            .with_context(|| format!("connect to `{}`", socket.display()))?;
        Ok(Self(RuntimeServiceClient::new(channel)))
    }

    pub(super) async fn run_pod(
        &mut self,
        config: &v1::PodSandboxConfig,
    ) -> anyhow::Result<String> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        Ok(self
            .0
            .run_pod_sandbox(request)
            .await
            .map_err(said)?
            .into_inner()
            .pod_sandbox_id)
    }

    pub(super) async fn pod_address(&mut self, pod: &str) -> anyhow::Result<String> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.to_owned(),
            verbose: false,
        };
        let status = self
            .0
            .pod_sandbox_status(request)
            .await
            .map_err(said)?
            .into_inner()
            .status;
        Ok(status
            .and_then(|status| status.network)
            .map(|network| network.ip)
            .unwrap_or_default())
    }

    pub(super) async fn pods(&mut self) -> anyhow::Result<Vec<v1::PodSandbox>> {
        let request = v1::ListPodSandboxRequest::default();
        Ok(self
            .0
            .list_pod_sandbox(request)
            .await
            .map_err(said)?
            .into_inner()
            .items)
    }

    pub(super) async fn stop_pod(&mut self, pod: &str) -> anyhow::Result<()> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        self.0.stop_pod_sandbox(request).await.map_err(said)?;
        Ok(())
    }

    pub(super) async fn remove_pod(&mut self, pod: &str) -> anyhow::Result<()> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        self.0.remove_pod_sandbox(request).await.map_err(said)?;
        Ok(())
    }

    pub(super) async fn create(
        &mut self,
        pod: &str,
        container: &v1::ContainerConfig,
        sandbox: &v1::PodSandboxConfig,
    ) -> anyhow::Result<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(container.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        Ok(self
            .0
            .create_container(request)
            .await
            .map_err(said)?
            .into_inner()
            .container_id)
    }

    pub(super) async fn start(&mut self, container: &str) -> anyhow::Result<()> {
        let request = v1::StartContainerRequest {
            container_id: container.to_owned(),
        };
        self.0.start_container(request).await.map_err(said)?;
        Ok(())
    }

    pub(super) async fn containers(&mut self) -> anyhow::Result<Vec<v1::Container>> {
        let request = v1::ListContainersRequest::default();
        Ok(self
            .0
            .list_containers(request)
            .await
            .map_err(said)?
            .into_inner()
            .containers)
    }

    pub(super) async fn exec(
        &mut self,
        container: &str,
        command: &[&str],
    ) -> anyhow::Result<v1::ExecSyncResponse> {
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 10,
        };
        Ok(self.0.exec_sync(request).await.map_err(said)?.into_inner())
    }

    pub(super) async fn stats(&mut self, container: &str) -> anyhow::Result<v1::ContainerStats> {
        let request = v1::ContainerStatsRequest {
            container_id: container.to_owned(),
        };
        let stats = self
            .0
            .container_stats(request)
            .await
            .map_err(said)?
            .into_inner()
            .stats;
        stats.context("the daemon answered without statistics")
    }
}

/// What the daemon said, without the transport's details.
fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{} ({:?})", status.message(), status.code())
}
