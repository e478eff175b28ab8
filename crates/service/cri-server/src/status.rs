//! Engine errors as gRPC status codes: the one place where they meet.

use crioxide_engine::{EngineError, ErrorKind};
use crioxide_streaming::StreamRefusal;
use tonic::{Code, Status};

/// The status for an engine error. CRI-O answers plain failures `Unknown`, and kubelets match their texts.
pub(crate) fn from_engine(error: EngineError) -> Status {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Conflict | ErrorKind::Failed => Code::Unknown,
    };
    Status::new(code, error.message())
}

/// The status for a port's error.
pub(crate) fn from_port(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Status {
    Status::new(Code::Unknown, crioxide_engine::chain(error))
}

/// The status of a streaming request that gets no address.
pub(crate) fn from_refusal(what: &str, refusal: &StreamRefusal) -> Status {
    let code = match refusal {
        StreamRefusal::Invalid(_) => Code::InvalidArgument,
        StreamRefusal::TooMany => Code::ResourceExhausted,
        StreamRefusal::NoRandomness => Code::Unknown,
    };
    Status::new(
        code,
        format!("unable to prepare {what} endpoint: {refusal}"),
    )
}
