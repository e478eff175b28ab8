//! `storage.conf`: the defaults that all tools using the store share.

use crate::StoreOptions;
use crate::store::options::boolean;
use crioxide_files::{ReadLimitedError, read_to_string_limited};
use serde::Deserialize;
use std::path::{Path, PathBuf};

const MAX_CONF: u64 = 1 << 20;

/// The settings of the one `storage.conf` in force, with the environment's overrides applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageConf {
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// `driver`; empty when not set.
    pub driver: String,
    /// `graphroot`.
    pub graph_root: Option<PathBuf>,
    /// `runroot`.
    pub run_root: Option<PathBuf>,
    /// `imagestore`.
    pub image_store: Option<PathBuf>,
    /// `additionalimagestores`.
    pub additional_image_stores: Vec<PathBuf>,
    /// `enable_partial_images` of `pull_options`, on if it is not there.
    pub partial_images: Option<bool>,
    /// The options as `<driver>.<key>=<value>` entries.
    pub driver_options: Vec<String>,
}

/// `storage.conf` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageConfError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadLimitedError),
    /// It is not TOML of the expected shape.
    #[error("parse {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

impl StorageConf {
    /// Reads the file named by `CONTAINERS_STORAGE_CONF`, else `/etc/containers/storage.conf`, else the one of the
    /// distribution; `STORAGE_DRIVER` and `STORAGE_OPTS` override it. Without any file everything is unset.
    pub fn load() -> Result<Self, StorageConfError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = variable("CONTAINERS_STORAGE_CONF").map(PathBuf::from);
        let mut conf = match named {
            Some(path) => Self::read(&path)?,
            None => Self::read_first(&[
                "/etc/containers/storage.conf",
                "/usr/share/containers/storage.conf",
            ])?,
        };
        if let Some(driver) = variable("STORAGE_DRIVER") {
            conf.driver = driver;
        }
        if let Some(options) = variable("STORAGE_OPTS") {
            conf.driver_options = options.split(',').map(str::to_owned).collect();
        }
        Ok(conf)
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, StorageConfError> {
        let text = read_to_string_limited(path, MAX_CONF)?;
        let file: File = toml::from_str(&text).map_err(|source| StorageConfError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let mut conf = file.into_conf();
        conf.file = Some(path.to_owned());
        Ok(conf)
    }

    /// The options of a store, with containers/storage's defaults where nothing is set.
    pub fn store_options(&self) -> StoreOptions {
        let defaults = StoreOptions::default();
        StoreOptions {
            graph_root: self.graph_root.clone().unwrap_or(defaults.graph_root),
            run_root: self.run_root.clone().unwrap_or(defaults.run_root),
            image_store: self.image_store.clone(),
            driver: self.driver.clone(),
            driver_options: self.driver_options.clone(),
            additional_image_stores: self.additional_image_stores.clone(),
            partial_images: self.partial_images.unwrap_or(defaults.partial_images),
        }
    }

    fn read_first(paths: &[&str]) -> Result<Self, StorageConfError> {
        for path in paths {
            match Self::read(Path::new(path)) {
                Err(StorageConfError::Read(error)) if error.is_not_found() => {}
                read_or_failed => return read_or_failed,
            }
        }
        Ok(Self::default())
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    storage: Storage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Storage {
    driver: String,
    graphroot: String,
    runroot: String,
    imagestore: String,
    options: Options,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Options {
    additionalimagestores: Vec<PathBuf>,
    additionallayerstores: Vec<String>,
    pull_options: PullOptions,
    #[serde(flatten)]
    rest: toml::Table,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PullOptions {
    enable_partial_images: Option<toml::Value>,
}

impl PullOptions {
    /// Text, as documented, or a boolean.
    fn partial_images(&self) -> Option<bool> {
        match self.enable_partial_images.as_ref()? {
            toml::Value::Boolean(enabled) => Some(*enabled),
            other => boolean(other.as_str()?),
        }
    }
}

/// Keys of `[storage.options]` that overlay takes as well as its own table.
const SHARED_KEYS: [&str; 6] = [
    "mountopt",
    "mount_program",
    "size",
    "ignore_chown_errors",
    "skip_mount_home",
    "force_mask",
];

impl File {
    fn into_conf(self) -> StorageConf {
        let Storage {
            driver,
            graphroot,
            runroot,
            imagestore,
            options,
        } = self.storage;
        let path = |text: String| {
            Some(text)
                .filter(|text| !text.is_empty())
                .map(PathBuf::from)
        };
        let name = match driver.as_str() {
            "" | "overlay2" => "overlay",
            other => other,
        };
        let table = match name {
            "devicemapper" => "thinpool",
            other => other,
        };
        let own = options.rest.get(table).and_then(toml::Value::as_table);
        let shared = SHARED_KEYS
            .iter()
            .filter_map(|&key| Some((key, options.rest.get(key)?)));
        let own = own
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value));
        let entry = |(key, value): (&str, &toml::Value)| {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Table(_) | toml::Value::Array(_) => return None,
                other => other.to_string(),
            };
            (!text.is_empty()).then(|| format!("{name}.{key}={text}"))
        };
        let layer_stores = options.additionallayerstores.iter();
        let layer_stores = layer_stores.map(|store| format!("{name}.additionallayerstore={store}"));
        let entries = shared.chain(own).filter_map(entry);
        let driver_options = entries.chain(layer_stores).collect();
        StorageConf {
            file: None,
            driver_options,
            graph_root: path(graphroot),
            run_root: path(runroot),
            image_store: path(imagestore),
            additional_image_stores: options.additionalimagestores,
            partial_images: options.pull_options.partial_images(),
            driver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    const WHOLE: &str = r#"
[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
imagestore = "/images"
[storage.options]
additionalimagestores = ["/a", "/b"]
size = "10G"
pull_options = {enable_partial_images = "true"}
[storage.options.overlay]
mountopt = "nodev,metacopy=on"
mount_program = "/usr/bin/fuse-overlayfs"
"#;

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6)) {
            let mut text = WHOLE.as_bytes().to_vec();
            for (index, value) in damage {
                let at = index.index(text.len());
                text[at] = value;
            }
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("storage.conf");
            std::fs::write(&path, text).unwrap();
            if let Ok(conf) = StorageConf::read(&path) {
                let _ = conf.store_options();
            }
        }
    }

    fn conf(text: &str) -> Result<StorageConf, StorageConfError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storage.conf");
        std::fs::write(&path, text).unwrap();
        StorageConf::read(&path)
    }

    #[test]
    fn tables_become_driver_options() {
        let conf = conf(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"/r\"\ngraphroot = \"/g\"\n\
             [storage.options]\nadditionalimagestores = [\"/ro\"]\nignore_chown_errors = \"true\"\nsize = \"\"\n\
             pull_options = {enable_partial_images = \"false\", use_hard_links = \"true\"}\n\
             [storage.options.overlay]\nmountopt = \"nodev,metacopy=on\"\n[storage.options.vfs]\nx = \"1\"\n",
        );
        let options = conf.unwrap().store_options();
        assert_eq!(options.graph_root, Path::new("/g"));
        assert_eq!(options.run_root, Path::new("/r"));
        assert!(!options.partial_images);
        assert_eq!(options.additional_image_stores, [PathBuf::from("/ro")]);
        assert_eq!(
            options.driver_options,
            [
                "overlay.ignore_chown_errors=true",
                "overlay.mountopt=nodev,metacopy=on"
            ]
        );
    }

    #[test]
    fn errors_name_the_file() {
        let error = conf("[storage]\ndriver = 7\n").unwrap_err();
        assert!(error.to_string().contains("storage.conf"), "{error}");
    }
}
