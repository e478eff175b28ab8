//! `[crio.tracing]`

use super::Config;

option_table! {
    /// `[crio.tracing]`: export of OpenTelemetry traces.
    pub struct TracingConfig for Config, at [tracing] in "crio.tracing" {
        /// Export traces.
        enable_tracing: bool = Bool(false);
        /// Address of the OTLP collector, which is spoken to by gRPC without TLS.
        tracing_endpoint: String = Text("127.0.0.1:4317");
        /// How many of a million requests are traced. 0 traces only those whose caller is traced.
        tracing_sampling_rate_per_million: i64 = Integer(0);
    }
}
