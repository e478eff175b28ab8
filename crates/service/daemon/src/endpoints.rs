//! What is served by HTTP/1: the inspect endpoints on the CRI socket and the metrics.

mod certificate;
mod http;
pub(crate) mod inspect;
pub(crate) mod prometheus;
