//! `wipe`: remove containers after a reboot, images after an upgrade, everything after a crash.

mod plan;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ArgMatches;
use crioxide_config::Config;
use crioxide_files::read_to_string_limited;
use crioxide_node_records::StorageMetadata;
use crioxide_store::{Store, UnmountForce};

use crate::launch::{load_settings, open_store, start_log};
use plan::{Facts, Plan, is_outdated, plan};

/// Says that the graph root was wiped since the boot, so that it is not wiped again.
const DONE_MARKER: &str = "/run/crio/crio-wipe-done";
const MAX_VERSION_BYTES: u64 = 4096;

pub(crate) fn run(global: &ArgMatches, command: &ArgMatches) -> anyhow::Result<()> {
    let settings = load_settings(global)?;
    start_log(&settings)?;
    let config = &settings.config;
    let facts = Facts {
        forced: command.get_flag("force"),
        internal_wipe: config.root.internal_wipe,
        rebooted: outdated(config.root.version_file.as_deref()),
        upgraded: outdated(config.root.version_file_persist.as_deref()),
        unclean: unclean(config),
        wiped_since_boot: Path::new(DONE_MARKER).exists(),
    };
    match plan(&facts) {
        Plan::Nothing => Ok(()),
        Plan::GraphRoot => {
            let root = &config.root.root;
            tracing::warn!(
                "File {} not found. Wiping storage directory {} because of suspected unclean shutdown",
                config
                    .root
                    .clean_shutdown_file
                    .as_deref()
                    .unwrap_or(Path::new(""))
                    .display(),
                root.display()
            );
            remove_graph_root(root, open_store(config)?)?;
            mark_done()
        }
        Plan::Containers => remove_containers(config, Reach::Containers),
        Plan::ContainersAndImages => remove_containers(config, Reach::Images),
    }
}

/// Whether the version file at `path` asks for a wipe. Without a path nothing does.
fn outdated(path: Option<&Path>) -> bool {
    path.is_some_and(|path| {
        is_outdated(
            read_to_string_limited(path, MAX_VERSION_BYTES)
                .ok()
                .as_deref(),
        )
    })
}

/// An unclean shutdown: the daemon ran with the mechanism on and left no mark of its exit.
fn unclean(config: &Config) -> bool {
    config
        .root
        .clean_shutdown_file
        .as_ref()
        .is_some_and(|file| {
            let mut supported = file.clone().into_os_string();
            supported.push(".supported");
            PathBuf::from(supported).exists() && !file.exists()
        })
}

/// Removes the graph root with all it holds, provided that nothing of it is in use.
pub(crate) fn remove_graph_root(root: &Path, store: Store) -> anyhow::Result<()> {
    tracing::info!("Wiping storage directory {}", root.display());
    store
        .shut_down(UnmountForce::One)
        .with_context(|| format!("wipe storage directory `{}`: it is in use", root.display()))?;
    drop(store);
    for entry in std::fs::read_dir(root).with_context(|| format!("list `{}`", root.display()))? {
        let path = entry
            .with_context(|| format!("list `{}`", root.display()))?
            .path();
        let removed = if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove `{}`", path.display()))?;
    }
    Ok(())
}

fn mark_done() -> anyhow::Result<()> {
    let marker = Path::new(DONE_MARKER);
    let directory = marker.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)
        .with_context(|| format!("create `{}`", directory.display()))?;
    std::fs::write(marker, "done").with_context(|| format!("write `{DONE_MARKER}`"))
}

/// How far a wipe of containers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Containers,
    /// The images that the containers used, too.
    Images,
}

/// Removes the containers that are CRI-O's. Everything is tried; the first failure is reported at the end.
fn remove_containers(config: &Config, reach: Reach) -> anyhow::Result<()> {
    let store = open_store(config)?;
    let mut images = std::collections::BTreeSet::new();
    let mut failed = None;
    for container in store
        .containers()
        .context("list the containers of the store")?
    {
        let ours = StorageMetadata::parse(&container.metadata)
            .is_ok_and(|metadata| !metadata.pod_name.is_empty() && !metadata.pod_id.is_empty());
        if !ours {
            continue;
        }
        images.insert(container.image.clone());
        match store.delete_container(&container.id) {
            Ok(()) => tracing::info!("Deleted container {}", container.id),
            Err(error) => {
                let error =
                    anyhow::Error::new(error).context(format!("delete container {}", container.id));
                tracing::warn!("{error:#}");
                failed.get_or_insert(error);
            }
        }
    }
    if reach == Reach::Images {
        for image in images.iter().filter(|image| !image.is_empty()) {
            match store.delete_image(image) {
                Ok(()) => tracing::info!("Deleted image {image}"),
                Err(error) => {
                    let error = anyhow::Error::new(error).context(format!("delete image {image}"));
                    tracing::warn!("{error:#}");
                    failed.get_or_insert(error);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
