//! Running the plugins of a list, one after the other.

use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::plugin::search::{Found, Origin};
use crate::{
    Attachment, Call, Fate, FindPluginError, History, Maker, NetworkList, NetworkResult,
    PluginError, Plugins, SpecVersion,
};

/// Type of the built-in plugin that maps host ports on top of a list that does not.
pub(crate) const PORTMAP: &str = "portmap";

/// A list with its plugins found.
pub(crate) struct Chain<'a> {
    list: &'a NetworkList,
    links: Vec<Link>,
    plugins: &'a Plugins,
    /// What built-in plugins delegate to: no program is started where none is needed.
    delegates: Plugins,
}

struct Link {
    found: Found,
    object: Map<String, Value>,
    maker: Maker,
}

/// How the plugins of a chain are chosen.
pub(crate) enum Choice<'a> {
    /// By preference, for a new attachment.
    Preferred,
    /// As recorded: these types are built in, the others are programs.
    Recorded(&'a [String]),
}

/// Whether host ports are mapped on top of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnPortmap {
    Append,
    No,
}

/// One run of a chain.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) attachment: &'a Attachment,
    pub(crate) netns: Option<&'a Path>,
    pub(crate) deadline: Instant,
    pub(crate) history: History,
    pub(crate) fate: Fate,
}

impl<'a> Chain<'a> {
    /// Finds all plugins of the list, before any of them does anything.
    pub(crate) fn new(
        list: &'a NetworkList,
        plugins: &'a Plugins,
        choice: &Choice<'_>,
        own_portmap: OwnPortmap,
    ) -> Result<Self, FindPluginError> {
        let mut links = Vec::with_capacity(list.plugins.len() + 1);
        for plugin in &list.plugins {
            let found = match choice {
                Choice::Preferred => plugins.find(&plugin.plugin_type)?,
                Choice::Recorded(builtin) if builtin.contains(&plugin.plugin_type) => {
                    plugins.find_preferring(&plugin.plugin_type, crate::Preference::Builtin)?
                }
                Choice::Recorded(_) => {
                    plugins.find_preferring(&plugin.plugin_type, crate::Preference::Executable)?
                }
            };
            let maker = match choice {
                Choice::Recorded(builtin) if !builtin.contains(&plugin.plugin_type) => {
                    Maker::Unknown
                }
                _ => Maker::Itself,
            };
            links.push(Link {
                found,
                object: plugin.object.clone(),
                maker,
            });
        }
        if own_portmap == OwnPortmap::Append {
            let found = plugins.find_preferring(PORTMAP, crate::Preference::Builtin)?;
            let mut object = Map::new();
            object.insert("type".to_owned(), json!(PORTMAP));
            object.insert("capabilities".to_owned(), json!({"portMappings": true}));
            let maker = Maker::Itself;
            links.push(Link {
                found,
                object,
                maker,
            });
        }
        Ok(Self {
            list,
            links,
            plugins,
            delegates: plugins.preferring_builtin(),
        })
    }

    /// Types of the plugins that run built in, for the record.
    pub(crate) fn builtin_types(&self) -> Vec<String> {
        let builtin = self
            .links
            .iter()
            .filter(|link| link.found.origin == Origin::Builtin);
        builtin
            .filter_map(|link| link.object.get("type")?.as_str().map(str::to_owned))
            .collect()
    }

    pub(crate) fn add(&self, run: &Run<'_>) -> Result<NetworkResult, PluginError> {
        let version = self.list.version;
        let mut previous = None;
        for link in &self.links {
            let value = link
                .found
                .plugin
                .add(&self.call(run, link, previous.as_ref()))?;
            self.check_result(run, link, &value)?;
            previous = Some(value);
        }
        let value = previous.unwrap_or_else(|| json!({}));
        NetworkResult::parse(&value, version).map_err(|error| PluginError::Garbage {
            plugin: self.list.name.clone(),
            reason: crate::error::chain(&error),
        })
    }

    /// Before the next plugin acts on a result: it must be possible. Of `lo` everything is.
    fn check_result(&self, run: &Run<'_>, link: &Link, value: &Value) -> Result<(), PluginError> {
        if run.attachment.ifname == "lo" {
            return Ok(());
        }
        let plugin = link.object.get("type").and_then(Value::as_str);
        let plugin = plugin.unwrap_or(&self.list.name);
        let result = NetworkResult::parse(value, self.list.version).map_err(|error| {
            PluginError::Garbage {
                plugin: plugin.to_owned(),
                reason: crate::error::chain(&error),
            }
        })?;
        crate::network::verdict::believable(plugin, result).map(drop)
    }

    /// Runs DEL of every plugin in reverse order, going on past failures.
    pub(crate) fn del(&self, run: &Run<'_>, result: Option<&Value>) -> Vec<PluginError> {
        // Before 0.4.0 plugins do not know a previous result on DEL.
        let result = result.filter(|_| self.list.version >= SpecVersion::V0_4_0);
        let calls = self.links.iter().rev();
        calls
            .filter_map(|link| link.found.plugin.del(&self.call(run, link, result)).err())
            .collect()
    }

    pub(crate) fn check(&self, run: &Run<'_>, result: Option<&Value>) -> Result<(), PluginError> {
        self.links
            .iter()
            .try_for_each(|link| link.found.plugin.check(&self.call(run, link, result)))
    }

    /// Lets every built-in plugin make again what the host has lost; goes on past failures.
    pub(crate) fn restore(&self, run: &Run<'_>, result: &Value) -> Vec<PluginError> {
        let links = self.links.iter();
        links
            .filter_map(|link| {
                let call = self.call(run, link, Some(result));
                link.found.plugin.restore(&call).err()
            })
            .collect()
    }

    pub(crate) fn status(&self, run: &Run<'_>) -> Result<(), PluginError> {
        self.links
            .iter()
            .try_for_each(|link| link.found.plugin.status(&self.call(run, link, None)))
    }

    /// Runs GC of every plugin. Programs get it only when their version knows it.
    pub(crate) fn gc(&self, run: &Run<'_>, valid: &Value) -> Vec<PluginError> {
        let mut failures = Vec::new();
        for link in &self.links {
            if link.found.origin == Origin::Program && self.list.version < SpecVersion::V1_1_0 {
                continue;
            }
            let mut call = self.call(run, link, None);
            call.config
                .insert("cni.dev/valid-attachments".to_owned(), valid.clone());
            // Plugins written against the specification's draft look here.
            call.config
                .insert("cni.dev/attachments".to_owned(), valid.clone());
            failures.extend(link.found.plugin.gc(&call).err());
        }
        failures
    }

    fn call<'b>(&'b self, run: &Run<'b>, link: &Link, previous: Option<&Value>) -> Call<'b> {
        let mut config = link.object.clone();
        config.insert("name".to_owned(), json!(self.list.name));
        config.insert("cniVersion".to_owned(), json!(self.list.version.as_str()));
        if let Some(runtime) = runtime_config(&link.object, &run.attachment.capability_args) {
            config.insert("runtimeConfig".to_owned(), runtime);
        }
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        Call {
            container_id: &run.attachment.container_id,
            netns: run.netns,
            ifname: &run.attachment.ifname,
            args: &run.attachment.args,
            config,
            version: self.list.version,
            deadline: run.deadline,
            plugins: match link.found.origin {
                Origin::Builtin => &self.delegates,
                Origin::Program => self.plugins,
            },
            history: run.history,
            maker: link.maker,
            fate: run.fate,
        }
    }
}

/// What the plugin declares a capability for; nothing when it declares none that is given.
fn runtime_config(object: &Map<String, Value>, args: &Map<String, Value>) -> Option<Value> {
    let capabilities = object.get("capabilities")?.as_object()?;
    let declared = |name: &&String| capabilities.get(*name) == Some(&Value::Bool(true));
    let given: Map<_, _> = args
        .keys()
        .filter(declared)
        .map(|name| (name.clone(), args[name].clone()))
        .collect();
    (!given.is_empty()).then_some(Value::Object(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_declared_capabilities_are_told() {
        let object = json!({"capabilities": {"portMappings": true, "dns": false, "mac": true}});
        let args = json!({"portMappings": [1], "dns": {}, "cgroupPath": "/a"});
        let (object, args) = (object.as_object().unwrap(), args.as_object().unwrap());
        assert_eq!(
            runtime_config(object, args),
            Some(json!({"portMappings": [1]}))
        );
        assert_eq!(runtime_config(&Map::new(), args), None);
        assert_eq!(runtime_config(object, &Map::new()), None);
    }
}
