//! A CRI client over a unix socket, with one short method for each call that tests make often.

use std::path::{Path, PathBuf};

use crioxide_cri_api::EncodedList;
use crioxide_cri_api::v1;
use crioxide_cri_api::v1::image_service_client::ImageServiceClient;
use crioxide_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

use crate::streams::Wanted;

/// Both CRI services of one daemon. Clones share the connection.
#[derive(Debug, Clone)]
pub struct CriClient {
    /// For calls that have no method here.
    pub runtime: RuntimeServiceClient<Channel>,
    /// For calls that have no method here.
    pub images: ImageServiceClient<Channel>,
    channel: Channel,
}

/// What [`CriClient`] answers: the value or the daemon's status.
pub type Answer<T> = Result<T, Status>;

impl CriClient {
    /// A client of the daemon at `socket`. It connects with the first call, and again after the daemon restarted.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        let socket: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address is required and not used: the connector knows the socket.
        let channel = Endpoint::from_static("http://cri")
            // The kubelet's client grows its windows to what comes: a long list is not held up by them.
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .connect_with_connector_lazy(connector);
        let most = 64 << 20;
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(most)
                .max_encoding_message_size(most * 4),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(most),
            channel,
        }
    }

    /// The number of entries in the answer to a list call without a filter. They are not decoded: for measurements of the
    /// daemon's part.
    pub async fn list_length(&self, rpc: &str) -> Answer<usize> {
        // A request without a filter and an answer of entries are the same in all lists.
        type Codec = ProstCodec<v1::ListContainersRequest, EncodedList<v1::Container>>;
        let path = format!("/runtime.v1.RuntimeService/{rpc}");
        let path = path
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{rpc}: {error}")))?;
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let request = tonic::Request::new(v1::ListContainersRequest::default());
        let answer = grpc.unary(request, path, Codec::default()).await?;
        Ok(answer.into_inner().len())
    }

    /// Version.
    pub async fn version(&self) -> Answer<v1::VersionResponse> {
        let request = v1::VersionRequest {
            version: "v1".to_owned(),
        };
        Ok(self.runtime.clone().version(request).await?.into_inner())
    }

    /// PullImage; the answer is the image reference.
    pub async fn pull(&self, image: &str) -> Answer<String> {
        let request = v1::PullImageRequest {
            image: Some(image_spec(image)),
            ..Default::default()
        };
        Ok(self
            .images
            .clone()
            .pull_image(request)
            .await?
            .into_inner()
            .image_ref)
    }

    /// ImageStatus; None when there is no such image.
    pub async fn image_status(&self, image: &str) -> Answer<Option<v1::Image>> {
        let request = v1::ImageStatusRequest {
            image: Some(image_spec(image)),
            verbose: false,
        };
        Ok(self
            .images
            .clone()
            .image_status(request)
            .await?
            .into_inner()
            .image)
    }

    /// ListImages without a filter.
    pub async fn list_images(&self) -> Answer<Vec<v1::Image>> {
        let request = v1::ListImagesRequest::default();
        Ok(self
            .images
            .clone()
            .list_images(request)
            .await?
            .into_inner()
            .images)
    }

    /// RemoveImage.
    pub async fn remove_image(&self, image: &str) -> Answer<()> {
        let request = v1::RemoveImageRequest {
            image: Some(image_spec(image)),
        };
        self.images.clone().remove_image(request).await?;
        Ok(())
    }

    /// RunPodSandbox; the answer is the pod's id.
    pub async fn run_pod(&self, config: &v1::PodSandboxConfig, handler: &str) -> Answer<String> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        Ok(self
            .runtime
            .clone()
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// PodSandboxStatus.
    pub async fn pod_status(&self, pod: &str) -> Answer<v1::PodSandboxStatus> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.to_owned(),
            verbose: false,
        };
        let answer = self
            .runtime
            .clone()
            .pod_sandbox_status(request)
            .await?
            .into_inner();
        answer
            .status
            .ok_or_else(|| Status::internal("PodSandboxStatus answered without a status"))
    }

    /// ListPodSandbox without a filter.
    pub async fn list_pods(&self) -> Answer<Vec<v1::PodSandbox>> {
        let request = v1::ListPodSandboxRequest::default();
        Ok(self
            .runtime
            .clone()
            .list_pod_sandbox(request)
            .await?
            .into_inner()
            .items)
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&self, pod: &str) -> Answer<()> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        self.runtime.clone().stop_pod_sandbox(request).await?;
        Ok(())
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&self, pod: &str) -> Answer<()> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        self.runtime.clone().remove_pod_sandbox(request).await?;
        Ok(())
    }

    /// CreateContainer; the answer is the container's id.
    pub async fn create(
        &self,
        pod: &str,
        container: &v1::ContainerConfig,
        sandbox: &v1::PodSandboxConfig,
    ) -> Answer<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(container.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        Ok(self
            .runtime
            .clone()
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    /// StartContainer.
    pub async fn start(&self, container: &str) -> Answer<()> {
        let request = v1::StartContainerRequest {
            container_id: container.to_owned(),
        };
        self.runtime.clone().start_container(request).await?;
        Ok(())
    }

    /// StopContainer with a grace period in seconds.
    pub async fn stop(&self, container: &str, grace_seconds: i64) -> Answer<()> {
        let request = v1::StopContainerRequest {
            container_id: container.to_owned(),
            timeout: grace_seconds,
        };
        self.runtime.clone().stop_container(request).await?;
        Ok(())
    }

    /// RemoveContainer.
    pub async fn remove(&self, container: &str) -> Answer<()> {
        let request = v1::RemoveContainerRequest {
            container_id: container.to_owned(),
        };
        self.runtime.clone().remove_container(request).await?;
        Ok(())
    }

    /// ContainerStatus.
    pub async fn container_status(&self, container: &str) -> Answer<v1::ContainerStatus> {
        let request = v1::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        let answer = self
            .runtime
            .clone()
            .container_status(request)
            .await?
            .into_inner();
        answer
            .status
            .ok_or_else(|| Status::internal("ContainerStatus answered without a status"))
    }

    /// ListContainers without a filter.
    pub async fn list_containers(&self) -> Answer<Vec<v1::Container>> {
        let request = v1::ListContainersRequest::default();
        Ok(self
            .runtime
            .clone()
            .list_containers(request)
            .await?
            .into_inner()
            .containers)
    }

    /// ExecSync with a timeout in seconds, 0 for none.
    pub async fn exec(
        &self,
        container: &str,
        command: &[&str],
        timeout_seconds: i64,
    ) -> Answer<v1::ExecSyncResponse> {
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: timeout_seconds,
        };
        Ok(self.runtime.clone().exec_sync(request).await?.into_inner())
    }

    /// Exec; the answer is the address of the session.
    pub async fn exec_url(
        &self,
        container: &str,
        command: &[&str],
        wanted: Wanted,
    ) -> Answer<String> {
        let request = v1::ExecRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: true,
            stderr: wanted.stderr,
        };
        Ok(self.runtime.clone().exec(request).await?.into_inner().url)
    }

    /// Attach; the answer is the address of the session.
    pub async fn attach_url(&self, container: &str, wanted: Wanted) -> Answer<String> {
        let request = v1::AttachRequest {
            container_id: container.to_owned(),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: true,
            stderr: wanted.stderr,
        };
        Ok(self.runtime.clone().attach(request).await?.into_inner().url)
    }

    /// PortForward; the answer is the address of the session.
    pub async fn port_forward_url(&self, pod: &str, ports: &[i32]) -> Answer<String> {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: pod.to_owned(),
            port: ports.to_vec(),
        };
        Ok(self
            .runtime
            .clone()
            .port_forward(request)
            .await?
            .into_inner()
            .url)
    }

    /// ContainerStats.
    pub async fn container_stats(&self, container: &str) -> Answer<Option<v1::ContainerStats>> {
        let request = v1::ContainerStatsRequest {
            container_id: container.to_owned(),
        };
        Ok(self
            .runtime
            .clone()
            .container_stats(request)
            .await?
            .into_inner()
            .stats)
    }
}

/// An image by its name.
#[must_use]
pub fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
        ..Default::default()
    }
}
