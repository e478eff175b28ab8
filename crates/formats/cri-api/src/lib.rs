//! CRI v1 messages and services, generated from `proto/`.
