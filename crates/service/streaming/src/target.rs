//! What sessions are with.

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_engine::ports::{PortConnection, Session};
use crioxide_engine::{Engine, EngineError};

/// Opens sessions.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// Runs a command.
    async fn exec(&self, request: &v1::ExecRequest) -> Result<Session, EngineError>;
    /// Attaches to a container.
    async fn attach(&self, request: &v1::AttachRequest) -> Result<Session, EngineError>;
    /// Connects to a pod's port.
    async fn connect(&self, pod: &str, port: u16) -> Result<Box<dyn PortConnection>, EngineError>;
}

#[async_trait]
impl Target for Engine {
    async fn exec(&self, request: &v1::ExecRequest) -> Result<Session, EngineError> {
        self.exec_session(request).await
    }

    async fn attach(&self, request: &v1::AttachRequest) -> Result<Session, EngineError> {
        self.attach_session(request).await
    }

    async fn connect(&self, pod: &str, port: u16) -> Result<Box<dyn PortConnection>, EngineError> {
        self.connect_port(pod, port).await
    }
}
