//! The store that the configuration names.

use anyhow::Context as _;
use crioxide_config::Config;
use crioxide_store::{StorageConf, Store, StoreOptions};

/// How the store is opened: what `config` says, which holds the values of `storage.conf` already, and what only
/// `storage.conf` can say.
pub(crate) fn store_options(config: &Config) -> anyhow::Result<StoreOptions> {
    let shared = StorageConf::load()
        .context("read storage.conf")?
        .store_options();
    let root = &config.root;
    Ok(StoreOptions {
        graph_root: root.root.clone(),
        run_root: root.runroot.clone(),
        image_store: root.imagestore.clone().or(shared.image_store),
        driver: if root.storage_driver.is_empty() {
            shared.driver
        } else {
            root.storage_driver.clone()
        },
        driver_options: root.storage_option.clone(),
        additional_image_stores: shared.additional_image_stores,
        partial_images: shared.partial_images,
    })
}

/// Opens the store, creating it when there is none.
pub(crate) fn open_store(config: &Config) -> anyhow::Result<Store> {
    let options = store_options(config)?;
    let root = options.graph_root.clone();
    Store::open(options).with_context(|| format!("open the store at `{}`", root.display()))
}
