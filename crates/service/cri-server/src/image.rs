//! The image service.

use std::sync::Arc;

use crioxide_cri_api::v1::{self, image_service_server::ImageService as Service};
use crioxide_engine::{
    Engine,
    ports::{ImageService, PullRequest},
};
use tonic::{Request, Response, Status};

use crate::{
    rpc, status,
    stream::{self, Answers},
};

/// `runtime.v1.ImageService`.
#[derive(Debug)]
pub(crate) struct Images {
    engine: Engine,
}

impl Images {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    fn port(&self) -> Arc<dyn ImageService> {
        self.engine.images()
    }

    async fn list(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
        let wanted = filter
            .and_then(|filter| filter.image)
            .map(|image| image.image)
            .filter(|image| !image.is_empty());
        self.port()
            .list(wanted)
            .await
            .map_err(|error| status::from_port(error.as_ref()))
    }
}

const SERVICE: &str = "ImageService";

fn image_of(spec: Option<v1::ImageSpec>) -> Result<String, Status> {
    let image = spec.unwrap_or_default().image;
    if image.is_empty() {
        Err(Status::unknown("no image specified"))
    } else {
        Ok(image)
    }
}

#[tonic::async_trait]
impl Service for Images {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        rpc::unary(SERVICE, "ListImages", request, |request| async {
            Ok(v1::ListImagesResponse {
                images: self.list(request.filter).await?,
            })
        })
        .await
    }

    type StreamImagesStream = Answers<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.list(request.into_inner().filter).await?;
        Ok(Response::new(stream::chunks(images, |images| {
            v1::StreamImagesResponse { images }
        })))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        rpc::unary(SERVICE, "ImageStatus", request, |request| async move {
            let image = image_of(request.image)?;
            let found = self
                .port()
                .status(&image)
                .await
                .map_err(|error| status::from_port(error.as_ref()))?;
            let mut answer = v1::ImageStatusResponse::default();
            if let Some(found) = found {
                answer.image = Some(found.image);
                if request.verbose {
                    answer.info.insert("info".to_owned(), found.info);
                }
            }
            Ok(answer)
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        rpc::unary(SERVICE, "PullImage", request, |request| async move {
            let image = image_of(request.image)?;
            let metadata = request.sandbox_config.and_then(|config| config.metadata);
            let namespace = metadata
                .map(|metadata| metadata.namespace)
                .unwrap_or_default();
            let pull = PullRequest {
                image,
                auth: request.auth,
                namespace,
            };
            let id = self
                .port()
                .pull(pull)
                .await
                .map_err(|error| status::from_port(error.as_ref()))?;
            Ok(v1::PullImageResponse {
                image_ref: id.to_string(),
            })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        rpc::unary(SERVICE, "RemoveImage", request, |request| async move {
            let image = image_of(request.image)?;
            self.port()
                .remove(&image)
                .await
                .map_err(|error| status::from_port(error.as_ref()))?;
            Ok(v1::RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(
        &self,
        request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        rpc::unary(SERVICE, "ImageFsInfo", request, |_| async {
            self.port()
                .fs_info()
                .await
                .map_err(|error| status::from_port(error.as_ref()))
        })
        .await
    }
}
