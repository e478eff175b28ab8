//! What CRI-O keeps about pods and containers on a node, and how it spells it.
//!
//! The records of a node outlive the daemon that wrote them: annotations in `config.json`, `state.json`, the metadata
//! of storage containers, the version files. Either daemon has to be able to take over from the other, so the exact
//! encodings (Go's JSON, its times, its zero values) live here, as pure functions between text and typed values.
//! Reading and writing the files themselves is left to the callers.
//!
//! ```
//! use crioxide_node_records::ContainerState;
//!
//! let state = ContainerState::parse(br#"{"id":"c1","status":"running","pid":7}"#)?;
//! assert_eq!(state.init_pid, 7);
//! assert!(state.to_json()?.contains(r#""started":"0001-01-01T00:00:00Z""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod annotations;
pub mod container_state;
pub mod go_json;
pub mod go_time;
pub mod record_names;
pub mod storage_metadata;
pub mod version_file;

pub use annotations::{ContainerAnnotations, SandboxAnnotations};
pub use container_state::ContainerState;
pub use storage_metadata::StorageMetadata;
