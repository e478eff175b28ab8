//! Untyped values, and the conversion between them and the types of the resolved configuration.

pub(crate) mod choice;
pub mod duration;
pub mod size;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::option::Kind;

/// A value as it stands in a file, a flag or a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

impl fmt::Display for Value {
    /// The plain form for messages: lists are joined with commas, an empty list is `[]`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(flag) => write!(formatter, "{flag}"),
            Value::Integer(number) => write!(formatter, "{number}"),
            Value::Text(text) => formatter.write_str(text),
            Value::List(items) if items.is_empty() => formatter.write_str("[]"),
            Value::List(items) => formatter.write_str(&items.join(",")),
            Value::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                formatter.write_str(&entries.join(","))
            }
        }
    }
}

/// A value that an option does not take, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidValue {
    pub reason: String,
}

impl InvalidValue {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    fn wrong_kind(expected: Kind, found: &Value) -> Self {
        Self::new(format!("expected {}, got `{found}`", expected.name()))
    }
}

/// A type that options may have.
pub trait OptionValue: Sized {
    /// Its type in TOML.
    const KIND: Kind;

    /// # Errors
    /// When `value` is of another kind or not one of the values that the type allows.
    fn from_value(value: &Value) -> Result<Self, InvalidValue>;

    fn to_value(&self) -> Value;
}

impl OptionValue for bool {
    const KIND: Kind = Kind::Bool;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            other => Err(InvalidValue::wrong_kind(Self::KIND, other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! integer_value {
    ($($ty:ty),+) => { $(
        impl OptionValue for $ty {
            const KIND: Kind = Kind::Integer;

            fn from_value(value: &Value) -> Result<Self, InvalidValue> {
                match value {
                    Value::Integer(number) => <$ty>::try_from(*number).map_err(|_| {
                        InvalidValue::new(format!("{number} is not between {} and {}", <$ty>::MIN, <$ty>::MAX))
                    }),
                    other => Err(InvalidValue::wrong_kind(Self::KIND, other)),
                }
            }

            fn to_value(&self) -> Value {
                // Every integer option is declared with a type whose values fit: u64 ones come from an i64.
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )+ };
}

integer_value!(i64, u64, u16);

pub(crate) fn text(value: &Value) -> Result<&str, InvalidValue> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(InvalidValue::wrong_kind(Kind::Text, other)),
    }
}

impl OptionValue for String {
    const KIND: Kind = Kind::Text;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        text(value).map(str::to_owned)
    }

    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl OptionValue for PathBuf {
    const KIND: Kind = Kind::Text;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        text(value).map(PathBuf::from)
    }

    fn to_value(&self) -> Value {
        Value::Text(self.display().to_string())
    }
}

/// An empty text means "not set".
impl OptionValue for Option<PathBuf> {
    const KIND: Kind = Kind::Text;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        let text = text(value)?;
        Ok(if text.is_empty() {
            None
        } else {
            Some(PathBuf::from(text))
        })
    }

    fn to_value(&self) -> Value {
        Value::Text(
            self.as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
        )
    }
}

impl OptionValue for Vec<String> {
    const KIND: Kind = Kind::List;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        match value {
            Value::List(items) => Ok(items.clone()),
            other => Err(InvalidValue::wrong_kind(Self::KIND, other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::List(self.clone())
    }
}

impl OptionValue for Vec<PathBuf> {
    const KIND: Kind = Kind::List;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        Ok(Vec::<String>::from_value(value)?
            .into_iter()
            .map(PathBuf::from)
            .collect())
    }

    fn to_value(&self) -> Value {
        Value::List(self.iter().map(|path| path.display().to_string()).collect())
    }
}

impl OptionValue for BTreeMap<String, String> {
    const KIND: Kind = Kind::Map;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        match value {
            Value::Map(entries) => Ok(entries.clone()),
            other => Err(InvalidValue::wrong_kind(Self::KIND, other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::Map(self.clone())
    }
}

/// A Go duration that must not be negative.
impl OptionValue for Duration {
    const KIND: Kind = Kind::Duration;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        let text = text(value)?;
        let parsed = duration::parse(text).map_err(|error| InvalidValue::new(error.to_string()))?;
        parsed
            .non_negative()
            .ok_or_else(|| InvalidValue::new("must not be negative"))
    }

    fn to_value(&self) -> Value {
        Value::Text(duration::format(*self))
    }
}

/// Port of the streaming server, which the configuration file holds as text. 0 lets the kernel choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPort(pub u16);

impl OptionValue for StreamPort {
    const KIND: Kind = Kind::Text;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        let text = text(value)?;
        text.parse()
            .map(StreamPort)
            .map_err(|_| InvalidValue::new(format!("`{text}` is not a port number")))
    }

    fn to_value(&self) -> Value {
        Value::Text(self.0.to_string())
    }
}

/// How long a streaming connection may be silent. The text is kept as written because CRI-O accepts any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleTimeout(pub String);

impl IdleTimeout {
    /// What an empty or unreadable text stands for.
    pub const DEFAULT: Duration = Duration::from_secs(4 * 60 * 60);

    /// The timeout to use.
    pub fn duration(&self) -> Duration {
        duration::parse(&self.0)
            .ok()
            .and_then(|parsed| parsed.non_negative())
            .unwrap_or(Self::DEFAULT)
    }
}

impl OptionValue for IdleTimeout {
    const KIND: Kind = Kind::Text;

    fn from_value(value: &Value) -> Result<Self, InvalidValue> {
        text(value).map(|text| IdleTimeout(text.to_owned()))
    }

    fn to_value(&self) -> Value {
        Value::Text(self.0.clone())
    }
}
