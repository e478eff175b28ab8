//! One configuration file as text, and as the settings it makes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{ConfigError, Origin, Warning};
use crate::option::{Kind, OptionSpec};
use crate::tables::{RuntimeHandler, TABLES, Workload, WorkloadResources};
use crate::value::Value;

/// A file that was read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// For messages.
    pub path: PathBuf,
    pub text: String,
}

impl ConfigFile {
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }
}

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Settings by their key within a table.
pub(crate) type Settings = BTreeMap<String, Setting>;

/// A workload as the file gives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawWorkload {
    pub(crate) settings: Settings,
    pub(crate) resources: Settings,
}

/// What one file sets; all of it is optional.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    /// By whole key, such as `crio.api.listen`.
    pub(crate) settings: Settings,
    pub(crate) runtimes: BTreeMap<String, Settings>,
    pub(crate) workloads: BTreeMap<String, RawWorkload>,
    /// The legacy key `plugin_dir` of `[crio.network]`.
    pub(crate) plugin_dir: Option<Setting>,
    pub(crate) warnings: Vec<Warning>,
}

/// Parses one file.
pub(crate) fn parse(file: &ConfigFile) -> Result<RawConfig, ConfigError> {
    let mut reader = Reader {
        file,
        raw: RawConfig::default(),
    };
    let document = DeTable::parse(&file.text).map_err(|error| ConfigError::Syntax {
        path: file.path.clone(),
        line: error.span().map_or(1, |span| reader.line(span.start)),
        reason: error.message().to_owned(),
    })?;
    reader.read_table("", document.get_ref())?;
    Ok(reader.raw)
}

struct Reader<'f> {
    file: &'f ConfigFile,
    raw: RawConfig,
}

impl Reader<'_> {
    fn read_table(&mut self, path: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        let spec = TABLES.iter().find(|known| known.name == path);
        for (name, value) in table {
            let name_line = self.line(name.span().start);
            let key = join(path, name.get_ref());
            if let Some(option) = spec.and_then(|spec| spec.option(name.get_ref())) {
                let setting = self.setting(&key, option.kind, value)?;
                self.raw.settings.insert(key, setting);
            } else if key == "crio.runtime.runtimes" {
                self.read_runtimes(&key, value)?;
            } else if key == "crio.runtime.workloads" {
                self.read_workloads(&key, value)?;
            } else if key == "crio.network.plugin_dir" {
                self.raw.plugin_dir = Some(self.setting(&key, Kind::Text, value)?);
            } else if is_table(&key) {
                self.read_table(&key, self.table(&key, value)?)?;
            } else if key != "crio.api.host_ip" {
                self.unknown(key, name_line);
            }
        }
        Ok(())
    }

    fn read_runtimes(
        &mut self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        for (name, entry) in self.table(path, value)? {
            let path = join(path, name.get_ref());
            let table = self.table(&path, entry)?;
            let settings = self.read_entries(&path, table, RuntimeHandler::OPTIONS, &[])?;
            self.raw
                .runtimes
                .insert(name.get_ref().to_string(), settings);
        }
        Ok(())
    }

    fn read_workloads(
        &mut self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        for (name, entry) in self.table(path, value)? {
            let path = join(path, name.get_ref());
            let table = self.table(&path, entry)?;
            let mut workload = RawWorkload {
                settings: self.read_entries(&path, table, Workload::OPTIONS, &["resources"])?,
                resources: Settings::new(),
            };
            if let Some(resources) = table.get("resources") {
                let path = join(&path, "resources");
                let table = self.table(&path, resources)?;
                workload.resources =
                    self.read_entries(&path, table, WorkloadResources::OPTIONS, &[])?;
            }
            self.raw
                .workloads
                .insert(name.get_ref().to_string(), workload);
        }
        Ok(())
    }

    /// Reads a table whose keys are `options`; `apart` are keys that somebody else reads.
    fn read_entries<Owner>(
        &mut self,
        path: &str,
        table: &DeTable<'_>,
        options: &[OptionSpec<Owner>],
        apart: &[&str],
    ) -> Result<Settings, ConfigError> {
        let mut settings = Settings::new();
        for (name, value) in table {
            let key = join(path, name.get_ref());
            match options.iter().find(|option| option.key == name.get_ref()) {
                Some(option) => {
                    settings.insert(
                        name.get_ref().to_string(),
                        self.setting(&key, option.kind, value)?,
                    );
                }
                None if apart.contains(&name.get_ref().as_ref()) => {}
                None => self.unknown(key, self.line(name.span().start)),
            }
        }
        Ok(settings)
    }

    fn table<'v, 'i>(
        &self,
        key: &str,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Result<&'v DeTable<'i>, ConfigError> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.wrong_type(key, "table", value))
    }

    fn setting(
        &self,
        key: &str,
        kind: Kind,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Setting, ConfigError> {
        let converted = convert(kind, value.get_ref())
            .ok_or_else(|| self.wrong_type(key, kind.name(), value))?;
        let origin = Origin::File {
            path: self.file.path.clone(),
            line: self.line(value.span().start),
        };
        Ok(Setting {
            value: converted,
            origin,
        })
    }

    fn wrong_type(
        &self,
        key: &str,
        expected: &'static str,
        value: &Spanned<DeValue<'_>>,
    ) -> ConfigError {
        ConfigError::WrongType {
            path: self.file.path.clone(),
            line: self.line(value.span().start),
            key: key.to_owned(),
            expected,
            found: value.get_ref().type_str(),
            value: self
                .file
                .text
                .get(value.span())
                .unwrap_or_default()
                .to_owned(),
        }
    }

    fn unknown(&mut self, key: String, line: usize) {
        self.raw.warnings.push(Warning::UnknownKey {
            path: self.file.path.clone(),
            line,
            key,
        });
    }

    fn line(&self, offset: usize) -> usize {
        self.file
            .text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    }
}

fn convert(kind: Kind, value: &DeValue<'_>) -> Option<Value> {
    Some(match kind {
        Kind::Bool => Value::Bool(value.as_bool()?),
        Kind::Integer => {
            let integer = value.as_integer()?;
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()?)
        }
        Kind::Text | Kind::Duration => Value::Text(value.as_str()?.to_owned()),
        Kind::List => Value::List(
            value
                .as_array()?
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
        ),
        Kind::Map => Value::Map(
            value
                .as_table()?
                .iter()
                .map(|(name, item)| {
                    Some((
                        name.get_ref().to_string(),
                        item.get_ref().as_str()?.to_owned(),
                    ))
                })
                .collect::<Option<_>>()?,
        ),
    })
}

/// Whether `key` names a table that is known or holds a known one.
fn is_table(key: &str) -> bool {
    TABLES.iter().any(|table| table.name == key)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
