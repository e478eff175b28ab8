//! Pod and container state machines. Knows neither gRPC nor root.
