//! tar-split: what is needed beside a layer's files to reproduce its tar bit for bit.
//!
//! A gzip of JSON lines in archive order: raw segments (headers, padding) and references to file content with a CRC.

mod reader;
mod replay;
mod writer;

pub use reader::{FileContent, TarSplitEntry, TarSplitError, TarSplitReader};
pub use replay::{LayerTar, LayerTarError};
pub(crate) use writer::TarSplitWriter;

use crc_fast::CrcAlgorithm;
use serde::{Deserialize, Serialize};

/// The checksum of file content; big-endian in the file.
#[must_use]
pub fn content_crc() -> crc_fast::Digest {
    crc_fast::Digest::new(CrcAlgorithm::Crc64GoIso)
}

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    /// Base64 of a name that is not UTF-8.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name_raw: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    /// Base64 of a segment's bytes or of a file's CRC; `null` for an empty file.
    payload: Option<String>,
    position: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
