//! `[crio.api]`

use std::path::PathBuf;

use super::Config;
use crate::value::choice::TlsVersion;
use crate::value::{IdleTimeout, StreamPort};

option_table! {
    /// `[crio.api]`: the CRI socket and the streaming server.
    pub struct ApiConfig for Config, at [api] in "crio.api" {
        /// Path of the unix socket that carries gRPC and the HTTP inspect endpoints.
        listen: PathBuf = Text("/var/run/crio/crio.sock");
        /// Address that the exec, attach and port-forward server binds to.
        /// A text that is no IP address stands for all interfaces.
        stream_address: String = Text("127.0.0.1");
        /// Port of the streaming server. 0 lets the kernel choose a free one.
        stream_port: StreamPort = Text("0");
        /// Serve streams over TLS only.
        stream_enable_tls: bool = Bool(false) => .env(&["CONTAINER_ENABLE_TLS"]);
        /// How long a stream may be silent before it is closed. Empty means 4h.
        stream_idle_timeout: IdleTimeout = Text("") => .env(&["STREAM_IDLE_TIMEOUT"]);
        /// PEM certificate of the streaming server. Changes are picked up without a restart.
        stream_tls_cert: Option<PathBuf> = Text("") => .env(&["CONTAINER_TLS_CERT"]);
        /// PEM key of the streaming server. Changes are picked up without a restart.
        stream_tls_key: Option<PathBuf> = Text("") => .env(&["CONTAINER_TLS_KEY"]);
        /// PEM certificates of the authorities that clients must present a certificate of.
        /// Empty asks for no client certificate.
        stream_tls_ca: Option<PathBuf> = Text("") => .env(&["CONTAINER_TLS_CA"]);
        /// Oldest TLS version of the streaming and metrics servers: VersionTLS12 or VersionTLS13.
        tls_min_version: TlsVersion = Text("VersionTLS12");
        /// Cipher suites by their IANA names. They apply to TLS 1.2 only. Empty takes the secure ones.
        tls_cipher_suites: Vec<String> = List(&[]);
        /// Largest message that the daemon sends, in bytes. 0 or less means 80 MiB.
        grpc_max_send_msg_size: i64 = Integer(83_886_080);
        /// Largest message that the daemon accepts, in bytes. 0 or less means 80 MiB.
        grpc_max_recv_msg_size: i64 = Integer(83_886_080);
    }
}
