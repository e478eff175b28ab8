//! Resource limits of processes as configured.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use thiserror::Error;

/// A limit that cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseUlimitError {
    /// Not `name=soft[:hard]`.
    #[error("invalid ulimit argument: {text}")]
    Format {
        /// The text.
        text: String,
    },
    /// No such limit.
    #[error("invalid ulimit type: {name}")]
    Type {
        /// The name.
        name: String,
    },
    /// More allowed than can be allowed.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order {
        /// Soft limit.
        soft: String,
        /// Hard limit.
        hard: String,
    },
}

/// Parses `name=soft[:hard]`, where -1 means unlimited.
///
/// # Errors
/// Fails for other forms, unknown names, and a soft limit above the hard one.
pub fn parse(text: &str) -> Result<PosixRlimit, ParseUlimitError> {
    let format = || ParseUlimitError::Format {
        text: text.to_owned(),
    };
    let (name, values) = text.split_once('=').ok_or_else(format)?;
    let typ = limit_type(name)?;
    let (soft_text, hard_text) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| {
        if text == "-1" {
            Some(u64::MAX)
        } else {
            text.parse::<u64>().ok()
        }
    };
    let (soft, hard) = (
        number(soft_text).ok_or_else(format)?,
        number(hard_text).ok_or_else(format)?,
    );
    if soft > hard {
        return Err(ParseUlimitError::Order {
            soft: soft_text.to_owned(),
            hard: hard_text.to_owned(),
        });
    }
    let limit = PosixRlimitBuilder::default()
        .typ(typ)
        .soft(soft)
        .hard(hard)
        .build()
        .expect("every field has a value");
    Ok(limit)
}

fn limit_type(name: &str) -> Result<PosixRlimitType, ParseUlimitError> {
    let unknown = || ParseUlimitError::Type {
        name: name.to_owned(),
    };
    if name != name.to_ascii_lowercase() {
        return Err(unknown());
    }
    let full = format!("RLIMIT_{}", name.to_ascii_uppercase());
    serde_json::from_value(serde_json::Value::String(full)).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed() {
        let limit = parse("nofile=1024:2048").unwrap();
        assert_eq!(
            (limit.typ(), limit.soft(), limit.hard()),
            (PosixRlimitType::RlimitNofile, 1024, 2048)
        );
        let unlimited = parse("core=-1").unwrap();
        assert_eq!((unlimited.soft(), unlimited.hard()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            parse("doesntexist=1").unwrap_err().to_string(),
            "invalid ulimit type: doesntexist"
        );
        assert_eq!(
            parse("nproc=2048:1024").unwrap_err().to_string(),
            "ulimit soft limit must be less than or equal to hard limit: 2048 > 1024"
        );
        for text in ["nproc", "nproc=", "nproc=a:1", "nproc=1:2:3", "nproc=-2"] {
            assert_eq!(
                parse(text),
                Err(ParseUlimitError::Format { text: text.into() })
            );
        }
    }
}
