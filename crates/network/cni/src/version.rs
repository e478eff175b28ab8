//! Versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification that configurations may ask for.
///
/// Older ones (0.1.0, 0.2.0) are refused: their results cannot say which interface an address is
/// on, and they know no lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, and DEL with the previous result.
    V0_4_0,
    /// 1.0.0: addresses no longer carry their family.
    V1_0_0,
    /// 1.1.0: STATUS and GC.
    V1_1_0,
}

/// A version text that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CNI version `{text}` is not supported, only 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0 are")]
pub struct ParseVersionError {
    /// The text that was refused.
    pub text: String,
}

impl SpecVersion {
    /// All supported versions, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The newest supported version.
    pub const LATEST: Self = Self::V1_1_0;

    /// The text used in configurations and results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| ParseVersionError {
                text: text.to_owned(),
            })
    }
}
