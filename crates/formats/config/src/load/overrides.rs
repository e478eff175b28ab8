//! Flags and environment variables: texts that become values of options.

use crate::diagnostic::Origin;
use crate::load::raw::Setting;
use crate::option::{Kind, OptionSpec};
use crate::tables;
use crate::value::Value;

/// A value given by a flag or a variable, which beats every file.
#[derive(Clone, Debug)]
pub struct Override {
    /// Whole key, such as `crio.api.listen`.
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

impl Override {
    pub(crate) fn into_setting(self) -> Setting {
        Setting {
            value: self.value,
            origin: self.origin,
        }
    }
}

/// A text that is no value of an option's type. The messages are those of `crio`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("invalid value {text:?} for flag -{flag}: {reason}")]
    Flag {
        flag: String,
        text: String,
        reason: &'static str,
    },
    #[error("invalid boolean value {text:?} for -{flag}: parse error")]
    BoolFlag { flag: String, text: String },
    #[error(
        "could not parse {text:?} as {kind} value from environment variable {variable:?} for flag {flag}: {reason}"
    )]
    Variable {
        flag: String,
        variable: String,
        text: String,
        kind: &'static str,
        reason: &'static str,
    },
}

/// The value of a flag that was given `texts`, one per occurrence.
///
/// # Errors
/// When the last text is no boolean, number or duration although the option is one.
pub fn override_from_flag<Owner>(
    option: &OptionSpec<Owner>,
    texts: &[String],
) -> Result<Override, OverrideError> {
    let flag = option.flag().unwrap_or_default();
    let value = value_of(option.kind, texts).map_err(|reason| {
        let text = texts.last().cloned().unwrap_or_default();
        match option.kind {
            Kind::Bool => OverrideError::BoolFlag {
                flag: flag.clone(),
                text,
            },
            _ => OverrideError::Flag {
                flag: flag.clone(),
                text,
                reason,
            },
        }
    })?;
    Ok(Override {
        key: option.path(),
        value,
        origin: Origin::Flag { name: flag },
    })
}

/// The value of an option whose environment variable `variable` holds `text`.
///
/// # Errors
/// As for [`override_from_flag`].
pub fn override_from_environment<Owner>(
    option: &OptionSpec<Owner>,
    variable: &str,
    text: &str,
) -> Result<Override, OverrideError> {
    let value =
        value_of(option.kind, &[text.to_owned()]).map_err(|reason| OverrideError::Variable {
            flag: option.flag().unwrap_or_default(),
            variable: variable.to_owned(),
            text: text.to_owned(),
            kind: option.kind.name(),
            reason,
        })?;
    Ok(Override {
        key: option.path(),
        value,
        origin: Origin::Environment {
            name: variable.to_owned(),
        },
    })
}

/// Every option that can be given on the command line and has a key in the file.
pub(crate) fn find(key: &str) -> Option<&'static OptionSpec<crate::Config>> {
    tables::options().find(|option| option.path() == key)
}

fn value_of(kind: Kind, texts: &[String]) -> Result<Value, &'static str> {
    let last = texts.last().map(String::as_str).unwrap_or_default();
    Ok(match kind {
        Kind::Bool => Value::Bool(parse_bool(last)?),
        Kind::Integer => Value::Integer(parse_integer(last)?),
        Kind::Text => Value::Text(last.to_owned()),
        Kind::Duration => {
            crate::value::duration::parse(last).map_err(|_| "parse error")?;
            Value::Text(last.to_owned())
        }
        // One occurrence may hold several items; a comma never belongs to one.
        Kind::List | Kind::Map => Value::List(
            texts
                .iter()
                .flat_map(|text| text.split(','))
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        ),
    })
}

/// The words that Go takes for a boolean. A flag without value is true.
fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error"),
    }
}

/// An integer in Go's base-0 syntax: decimal, `0x`, `0o`, `0b`, or octal after a leading zero.
fn parse_integer(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return Err("parse error");
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            "value out of range"
        }
        _ => "parse error",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_go() {
        assert_eq!(parse_integer("42"), Ok(42));
        assert_eq!(parse_integer("-1"), Ok(-1));
        assert_eq!(parse_integer("0x10"), Ok(16));
        assert_eq!(parse_integer("010"), Ok(8));
        assert_eq!(parse_integer("foo"), Err("parse error"));
        assert_eq!(parse_integer("--1"), Err("parse error"));
        assert_eq!(
            parse_integer("9223372036854775808"),
            Err("value out of range")
        );
    }

    #[test]
    fn flag_errors_name_flag_and_value() {
        let option = find("crio.runtime.ctr_stop_timeout").unwrap();
        let error = override_from_flag(option, &["foo".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid value \"foo\" for flag -ctr-stop-timeout: parse error"
        );
        let error = override_from_flag(option, &["18446744073709551616".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("value out of range"), "{error}");
        let error = override_from_environment(option, "CONTAINER_STOP_TIMEOUT", "x").unwrap_err();
        assert!(
            error.to_string().contains("\"CONTAINER_STOP_TIMEOUT\""),
            "{error}"
        );
    }

    #[test]
    fn lists_split_at_commas_and_add_up() {
        let option = find("crio.image.pinned_images").unwrap();
        let given = override_from_flag(option, &["a, b".to_owned(), "c".to_owned()]).unwrap();
        assert_eq!(
            given.value,
            Value::List(vec!["a".into(), "b".into(), "c".into()])
        );
    }
}
