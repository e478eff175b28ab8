//! A store of its own for each test, and a puller into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crioxide_pull::{
    Images, PolicySource, PullError, PullRequest, PullSettings, PulledImage, Puller,
};
use crioxide_registry::{AuthFiles, ClientSettings, ConfPaths, OnStall, RetryPolicy};
use crioxide_store::{Store, StoreOptions};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) puller: Puller,
    pub(crate) store: Arc<Store>,
    directory: PathBuf,
    /// Last, so that the store has let go of it when it is removed.
    _temporary: Option<TempDir>,
}

impl Fixture {
    /// `conf` is registries.conf.
    pub(crate) fn new(conf: &str) -> Self {
        let temporary = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut fixture = Self::at(temporary.path(), "overlay", conf);
        fixture._temporary = Some(temporary);
        fixture
    }

    /// With the store in a directory of the caller's.
    pub(crate) fn at(directory: &Path, driver: &str, conf: &str) -> Self {
        Self::patient(directory, driver, conf, Duration::from_secs(2))
    }

    /// With so much time for each answer of a registry.
    pub(crate) fn patient(directory: &Path, driver: &str, conf: &str, limit: Duration) -> Self {
        Self::with(directory, driver, conf, |settings| {
            settings.client.response_timeout = limit;
            settings.client.progress_timeout = limit;
        })
    }

    /// With further settings.
    pub(crate) fn with(
        directory: &Path,
        driver: &str,
        conf: &str,
        set: impl FnOnce(&mut PullSettings),
    ) -> Self {
        let path = |name: &str| directory.join(name);
        let store = Arc::new(open(directory, driver));
        std::fs::write(path("registries.conf"), conf).unwrap();
        let mut settings = PullSettings::new(store.clone());
        settings.registries = ConfPaths {
            file: path("registries.conf"),
            drop_ins: path("registries.conf.d"),
            alias_cache: None,
        };
        settings.auth_files = AuthFiles::new(vec![path("auth.json")]);
        settings.policy = PolicySource::AcceptAnything;
        settings.signature_places = path("registries.d");
        settings.decryption_keys = path("keys");
        settings.scratch = directory.to_owned();
        settings.client = ClientSettings {
            cert_dirs: vec![path("certs.d")],
            connect_timeout: Duration::from_secs(20),
            response_timeout: Duration::from_secs(2),
            progress_timeout: Duration::from_secs(2),
            on_stall: OnStall::Fail,
            retry: RetryPolicy {
                attempts: 3,
                first_delay: Duration::from_millis(1),
                max_delay: Duration::from_millis(20),
            },
            ..ClientSettings::default()
        };
        set(&mut settings);
        let puller = Puller::new(settings).unwrap();
        Self {
            directory: directory.to_owned(),
            store,
            puller,
            _temporary: None,
        }
    }

    /// With plain HTTP allowed for a host.
    pub(crate) fn insecure(host: &str) -> Self {
        Self::new(&insecure(host))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn images(&self) -> Images {
        Images::new(&self.puller)
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<PulledImage, Arc<PullError>> {
        self.puller.pull(PullRequest::new(reference)).await
    }

    /// Pulls what cannot be pulled; nothing may be left. Gives the whole message.
    pub(crate) async fn failure(&self, reference: &str) -> String {
        let error = self.pull(reference).await.unwrap_err();
        self.assert_empty();
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&*error);
        while let Some(error) = next {
            text.push_str(&format!(": {error}"));
            next = error.source();
        }
        text
    }

    /// No record, no layer, no staged content. The store removes what was deleted behind our back, so that is waited
    /// for: what nobody removes makes the test hang until its runner ends it.
    pub(crate) fn assert_empty(&self) {
        assert!(self.store.images().unwrap().is_empty());
        assert!(self.store.layers().unwrap().is_empty());
        while self.has_content() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether any layer's content lies in the store's directories, recorded or not.
    fn has_content(&self) -> bool {
        let mut pending = vec![self.path("root/overlay")];
        while let Some(directory) = pending.pop() {
            // What vanishes meanwhile is not there.
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name() == "diff" || entry.file_name() == "etc" {
                    return true;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(entry.path());
                }
            }
        }
        false
    }
}

/// The store in a directory.
pub(crate) fn open(directory: &Path, driver: &str) -> Store {
    let options = StoreOptions {
        graph_root: directory.join("root"),
        run_root: directory.join("run"),
        driver: driver.to_owned(),
        ..StoreOptions::default()
    };
    Store::open(options).unwrap()
}

/// A registries.conf that allows plain HTTP for a host.
pub(crate) fn insecure(host: &str) -> String {
    format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n")
}

/// Tests that write a store need root; says so when it is missing.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default()
        .trim()
        .to_owned();
    let root = uid.starts_with('0');
    if !root {
        println!("skipped: needs root");
    }
    root
}
