//! What is known about one option before any value exists.

use std::collections::BTreeMap;

use crate::reload::ReloadKind;
use crate::value::{InvalidValue, Value};

/// Type of an option in TOML and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Integer,
    Text,
    /// Text that holds a Go duration, such as `1m30s`.
    Duration,
    List,
    Map,
}

impl Kind {
    /// The name a user of the configuration file knows.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Integer => "integer",
            Kind::Text => "string",
            Kind::Duration => "duration string",
            Kind::List => "array of strings",
            Kind::Map => "table of strings",
        }
    }
}

/// A default value that can be written in a constant.
#[derive(Clone, Copy, Debug)]
pub enum Literal {
    Bool(bool),
    Integer(i64),
    Text(&'static str),
    List(&'static [&'static str]),
    EmptyMap,
}

impl Literal {
    /// The same value as owned data.
    pub fn to_value(&self) -> Value {
        match self {
            Literal::Bool(flag) => Value::Bool(*flag),
            Literal::Integer(number) => Value::Integer(*number),
            Literal::Text(text) => Value::Text((*text).to_owned()),
            Literal::List(items) => {
                Value::List(items.iter().map(|item| (*item).to_owned()).collect())
            }
            Literal::EmptyMap => Value::Map(BTreeMap::new()),
        }
    }
}

/// How an option is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `a_b` becomes `--a-b`.
    Regular,
    Named(&'static str),
    None,
}

/// Which environment variables set an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variables {
    /// `--a-b` becomes `CONTAINER_A_B`.
    Regular,
    Named(&'static [&'static str]),
    None,
}

/// Whether `--help` and the manual pages show an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    Shown,
    Hidden,
}

/// Typed access to the field that an option fills.
pub(crate) struct Access<Owner> {
    pub(crate) get: fn(&Owner) -> Value,
    pub(crate) set: fn(&mut Owner, &Value) -> Result<(), InvalidValue>,
}

/// One option of the table: where it lives, what it is called, what it means and what it is by default.
pub struct OptionSpec<Owner> {
    /// TOML table, such as `crio.api`; empty for options that exist on the command line only.
    pub table: &'static str,
    /// TOML key inside the table.
    pub key: &'static str,
    pub kind: Kind,
    pub default: Literal,
    /// Documentation, one entry per line.
    pub doc: &'static [&'static str],
    /// One-letter flag.
    pub short: Option<char>,
    /// A second flag of the same meaning.
    pub alias: Option<&'static str>,
    /// The reload step that takes over a change while the daemon runs.
    pub reload: Option<ReloadKind>,
    pub visibility: Visibility,
    /// What to use instead, when the option is deprecated.
    pub deprecated: Option<&'static str>,
    flag: Flag,
    variables: Variables,
    access: Access<Owner>,
}

impl<Owner> OptionSpec<Owner> {
    pub(crate) const fn new(
        table: &'static str,
        key: &'static str,
        kind: Kind,
        default: Literal,
        access: Access<Owner>,
    ) -> Self {
        Self {
            table,
            key,
            kind,
            default,
            doc: &[],
            short: None,
            alias: None,
            reload: None,
            visibility: Visibility::Shown,
            deprecated: None,
            flag: Flag::Regular,
            variables: Variables::Regular,
            access,
        }
    }

    /// The whole key, such as `crio.api.listen`.
    pub fn path(&self) -> String {
        if self.table.is_empty() {
            self.key.to_owned()
        } else {
            format!("{}.{}", self.table, self.key)
        }
    }

    /// The long flag without dashes.
    pub fn flag(&self) -> Option<String> {
        match self.flag {
            Flag::Regular => Some(self.key.replace('_', "-")),
            Flag::Named(name) => Some(name.to_owned()),
            Flag::None => None,
        }
    }

    /// The environment variables, the one that wins first.
    pub fn variables(&self) -> Vec<String> {
        match self.variables {
            Variables::Named(names) => names.iter().map(|name| (*name).to_owned()).collect(),
            Variables::None => Vec::new(),
            Variables::Regular => self
                .flag()
                .map(|flag| format!("CONTAINER_{}", flag.replace('-', "_").to_uppercase()))
                .into_iter()
                .collect(),
        }
    }

    /// The documentation as one paragraph.
    pub fn summary(&self) -> String {
        self.doc
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The value in `owner`.
    pub fn get(&self, owner: &Owner) -> Value {
        (self.access.get)(owner)
    }

    /// Puts `value` into `owner`.
    ///
    /// # Errors
    /// When the value is not one of those that the option takes.
    pub fn set(&self, owner: &mut Owner, value: &Value) -> Result<(), InvalidValue> {
        (self.access.set)(owner, value)
    }

    pub(crate) const fn documented(mut self, lines: &'static [&'static str]) -> Self {
        self.doc = lines;
        self
    }

    pub(crate) const fn named(mut self, flag: &'static str) -> Self {
        self.flag = Flag::Named(flag);
        self
    }

    pub(crate) const fn file_only(mut self) -> Self {
        self.flag = Flag::None;
        self.variables = Variables::None;
        self
    }

    pub(crate) const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.variables = Variables::Named(names);
        self
    }

    pub(crate) const fn no_env(mut self) -> Self {
        self.variables = Variables::None;
        self
    }

    pub(crate) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    pub(crate) const fn alias(mut self, flag: &'static str) -> Self {
        self.alias = Some(flag);
        self
    }

    pub(crate) const fn reload(mut self, kind: ReloadKind) -> Self {
        self.reload = Some(kind);
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.visibility = Visibility::Hidden;
        self
    }

    pub(crate) const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }
}

impl<Owner> std::fmt::Debug for OptionSpec<Owner> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OptionSpec")
            .field("path", &self.path())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
