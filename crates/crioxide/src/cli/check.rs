//! `check`: examine the store while no daemon runs, and repair it.

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use crioxide_config::duration;
use crioxide_store::{CheckDepth, Finding, LayerId, Store};

use crate::launch::{Settings, load_settings, open_store, start_log};

pub(crate) fn run(global: &ArgMatches, command: &ArgMatches) -> anyhow::Result<()> {
    let age = command
        .get_one::<String>("age")
        .map_or("24h", String::as_str);
    duration::parse(age).with_context(|| format!("unable to parse age duration {age:?}"))?;
    let settings = load_settings(global)?;
    start_log(&settings)?;
    let root = settings.config.root.root.display().to_string();
    let store = open_store(&settings.config)?;
    let depth = if command.get_flag("quick") {
        CheckDepth::Presence
    } else {
        CheckDepth::Digests
    };

    let findings = store
        .check(depth)
        .with_context(|| format!("check the store at `{root}`"))?;
    tracing::debug!(
        "Storage directory {root} has errors: {}",
        !findings.is_empty()
    );
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        tracing::warn!("{}", describe(finding));
    }
    if !command.get_flag("repair") {
        bail!("{}", Counts::of(&findings));
    }
    let scope = if command.get_flag("force") {
        Scope::Everything
    } else {
        Scope::Images
    };
    let repaired = repair(&store, &findings, scope);
    let left = store
        .check(depth)
        .with_context(|| format!("check the store at `{root}` once more"))?;
    match repaired {
        Ok(()) if left.is_empty() => Ok(()),
        _ if command.get_flag("wipe") => wipe(&settings, store),
        Err(error) => Err(error.context(format!("repair the store at `{root}`"))),
        Ok(()) => bail!("the repair left {}", Counts::of(&left)),
    }
}

/// What a repair may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Images,
    /// Damaged containers too.
    Everything,
}

/// Deletes what is damaged: what uses a thing goes before the thing.
fn repair(store: &Store, findings: &[Finding], scope: Scope) -> anyhow::Result<()> {
    let mut first_error = None;
    let mut note = |outcome: anyhow::Result<()>| {
        if let Err(error) = outcome {
            tracing::warn!("{error:#}");
            first_error.get_or_insert(error);
        }
    };
    if scope == Scope::Everything {
        for id in ids(findings, |finding| {
            matches!(finding, Finding::Container { .. })
        }) {
            note(
                store
                    .delete_container(id)
                    .with_context(|| format!("delete damaged container {id}")),
            );
        }
    }
    for id in ids(findings, |finding| matches!(finding, Finding::Image { .. })) {
        note(
            store
                .delete_image(id)
                .with_context(|| format!("delete damaged image {id}")),
        );
    }
    for id in ids(findings, |finding| matches!(finding, Finding::Layer { .. })) {
        note(delete_layer(store, id));
    }
    first_error.map_or(Ok(()), Err)
}

/// Deletes a layer after the images that need it.
fn delete_layer(store: &Store, id: &str) -> anyhow::Result<()> {
    let layer = LayerId::parse(id).with_context(|| format!("delete damaged layer {id}"))?;
    for image in store.images_using_layer(&layer)? {
        store
            .delete_image(&image.id)
            .with_context(|| format!("delete image {} of damaged layer {id}", image.id))?;
    }
    store
        .delete_layer(&layer)
        .with_context(|| format!("delete damaged layer {id}"))
}

fn ids(findings: &[Finding], wanted: fn(&Finding) -> bool) -> Vec<&str> {
    let mut ids: Vec<_> = findings
        .iter()
        .filter(|finding| wanted(finding))
        .map(id)
        .collect();
    ids.dedup();
    ids
}

fn id(finding: &Finding) -> &str {
    match finding {
        Finding::Layer { id, .. } | Finding::Image { id, .. } | Finding::Container { id, .. } => id,
    }
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Layer { id, problem } => format!("layer {id}: {problem}"),
        Finding::Image { id, problem } => format!("image {id}: {problem}"),
        Finding::Container { id, problem } => format!("container {id}: {problem}"),
    }
}

fn wipe(settings: &Settings, store: Store) -> anyhow::Result<()> {
    super::wipe::remove_graph_root(&settings.config.root.root, store)
}

/// How many things of each kind are damaged, in CRI-O's words. Read-only stores are not examined.
struct Counts {
    layers: usize,
    images: usize,
    containers: usize,
}

impl Counts {
    fn of(findings: &[Finding]) -> Self {
        let count = |wanted: fn(&Finding) -> bool| {
            findings.iter().filter(|finding| wanted(finding)).count()
        };
        Self {
            layers: count(|finding| matches!(finding, Finding::Layer { .. })),
            images: count(|finding| matches!(finding, Finding::Image { .. })),
            containers: count(|finding| matches!(finding, Finding::Container { .. })),
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} layer errors, 0 read-only layer errors, {} image errors, 0 read-only image errors, {} container errors",
            self.layers, self.images, self.containers
        )
    }
}
