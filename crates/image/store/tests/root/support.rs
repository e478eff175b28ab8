//! A throw-away store, and images made for it.

use crioxide_names::{Digest, ImageId};
use crioxide_store::{
    BigData, Compression, LayerId, NewImage, NewLayer, Store, StoreOptions, UnmountForce,
};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) struct TestStore {
    store: Option<Store>,
    options: StoreOptions,
    directory: Directory,
}

impl TestStore {
    /// `None`, with a note, when the tests cannot work here.
    pub(crate) fn new(driver: &str) -> Option<Self> {
        match driver {
            "btrfs" => Self::on("btrfs", driver),
            "devicemapper" => Self::with("", driver, VOLUMES),
            _ => Self::on("", driver),
        }
    }

    /// The same on a file system of its own, made for it, with project quotas for `…+quotas`; the machine's where that is
    /// empty.
    pub(crate) fn on(file_system: &str, driver: &str) -> Option<Self> {
        Self::with(file_system, driver, &[])
    }

    /// The same with options of the driver.
    pub(crate) fn with(file_system: &str, driver: &str, driver_options: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let directory = Directory::on(file_system)?;
        let options = StoreOptions {
            graph_root: directory.path().join("graph"),
            run_root: directory.path().join("run"),
            driver: driver.to_owned(),
            driver_options: driver_options.iter().map(|&o| o.to_owned()).collect(),
            ..Default::default()
        };
        let store = match Store::open(options.clone()) {
            Err(error) if error.to_string().contains("no device mapper") => {
                println!("skipped: {error}");
                return None;
            }
            opened => opened.unwrap(),
        };
        Some(Self {
            store: Some(store),
            options,
            directory,
        })
    }

    /// Ends the store as a crash would, except that locks are given back, and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.another());
    }

    /// A second opening of the same store, as another process would have it.
    pub(crate) fn another(&self) -> Store {
        Store::open(self.options.clone()).unwrap()
    }

    /// `inner` below the store's directory, with `{driver}` replaced.
    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        let inner = inner.replace("{driver}", &self.options.driver);
        self.directory.path().join(inner)
    }

    /// What the driver keeps of a layer below a root, which is `graph` or an image store.
    pub(crate) fn layer_directory(&self, root: &str, id: &str) -> PathBuf {
        let home = match self.options.driver.as_str() {
            "vfs" => "vfs/dir",
            "btrfs" => "btrfs/subvolumes",
            "devicemapper" => "devicemapper/metadata",
            driver => driver,
        };
        self.path(root).join(home).join(id)
    }

    /// Leaves something of a layer that has no record.
    pub(crate) fn leave_layer(&self, id: &str) -> PathBuf {
        let layer = self.layer_directory("graph", id);
        match self.options.driver.as_str() {
            "devicemapper" => {
                let text = r#"{"device_id":77,"size":134217728,"transaction_id":2}"#;
                std::fs::write(&layer, text).unwrap();
            }
            _ => std::fs::create_dir_all(layer.join("diff")).unwrap(),
        }
        layer
    }

    /// Runs podman, buildah or skopeo on the store; `None`, with a note, when it is not installed.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Option<Output> {
        let mut command = Command::new(name);
        if name != "skopeo" {
            command
                .arg("--root")
                .arg(self.path("graph"))
                .arg("--runroot")
                .arg(self.path("run"));
            command.args(["--storage-driver", &self.options.driver]);
        }
        command.args(arguments).env("TMPDIR", self.directory.path());
        match command.output() {
            Ok(output) => Some(output),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: {name} is not installed");
                None
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// Small volumes in a pool of files.
pub(crate) const VOLUMES: &[&str] = &[
    "dm.fs=ext4",
    "dm.mkfsarg=-N8192",
    "dm.basesize=128M",
    "dm.loopdatasize=4G",
    "dm.loopmetadatasize=64M",
];

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        // What was deleted is gone when the store is, and only then can its file system go.
        if let Some(store) = self.store.take() {
            store.shut_down(UnmountForce::All).unwrap();
        }
    }
}

/// A throw-away directory, on a file system of its own where a certain one is wanted.
struct Directory {
    path: PathBuf,
    mounted: bool,
    _directory: tempfile::TempDir,
}

impl Directory {
    fn on(file_system: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        if file_system.is_empty() {
            return Some(Self {
                path: directory.path().to_owned(),
                mounted: false,
                _directory: directory,
            });
        }
        let (image, path) = (directory.path().join("image"), directory.path().join("fs"));
        std::fs::create_dir(&path).unwrap();
        let size = std::fs::File::create(&image).and_then(|file| file.set_len(1 << 30));
        size.unwrap();
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let output = Command::new(program).args(arguments).output();
            let error = match output {
                Ok(output) if output.status.success() => return true,
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => error.to_string(),
            };
            println!("skipped: no {file_system} here: {program}: {error}");
            false
        };
        // Project quotas are asked for by their tests alone: not every kernel has them.
        let (file_system, quotas) = match file_system.strip_suffix("+quotas") {
            Some(plain) => (plain, true),
            None => (file_system, false),
        };
        let (features, options): (&[&str], _) = match (file_system, quotas) {
            ("xfs", true) => (&[], "-oloop,pquota"),
            ("ext4", true) => (
                &["-O", "quota,project", "-E", "quotatype=prjquota"],
                "-oloop,prjquota",
            ),
            _ => (&[], "-oloop"),
        };
        let make: Vec<&std::ffi::OsStr> = ["-q"]
            .iter()
            .chain(features)
            .map(std::ffi::OsStr::new)
            .chain([image.as_ref()])
            .collect();
        let made = run(&format!("mkfs.{file_system}"), &make)
            && run("mount", &[options.as_ref(), image.as_ref(), path.as_ref()]);
        made.then(|| Self {
            path,
            mounted: true,
            _directory: directory,
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.mounted {
            rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
}

/// The output of a tool that must have succeeded.
pub(crate) fn stdout(output: Output) -> String {
    String::from_utf8(stdout_bytes(output)).unwrap()
}

/// As [`stdout`], for output that is no text.
pub(crate) fn stdout_bytes(output: Output) -> Vec<u8> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    output.stdout
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// A tar of a directory made by GNU tar with `options`; `None`, with a note, without it.
pub(crate) fn gnu_tar(directory: &Path, options: &[&str]) -> Option<Vec<u8>> {
    let tar = Command::new("tar")
        .args(options)
        .arg("-C")
        .arg(directory)
        .args(["-cf", "-", "."])
        .output();
    match tar {
        Ok(output) if output.status.success() => Some(output.stdout),
        Ok(output) => {
            println!(
                "skipped: tar {options:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            None
        }
        Err(error) => {
            println!("skipped: tar: {error}");
            None
        }
    }
}

/// Adds a layer.
pub(crate) fn layer(store: &Store, parent: Option<&LayerId>, tar: &[u8]) -> LayerId {
    let mut staging = store.stage_layer().unwrap();
    let summary = staging.unpack(tar).unwrap();
    assert_eq!(summary.diff_id, sha256(tar));
    let id = LayerId::of_content(parent, &summary.diff_id);
    let mut new = NewLayer::unpacked(id.clone(), parent.cloned(), summary);
    new.compressed_digest = Some(sha256(tar));
    new.compressed_size = tar.len() as u64;
    new.compression = Compression::None;
    store.commit_layer(staging, new).unwrap();
    id
}

/// A tar of a small root file system with busybox; `None`, with a note, without it.
pub(crate) fn busybox_tar() -> Option<Vec<u8>> {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("bin")).unwrap();
    for directory in ["etc", "proc", "sys", "dev", "run", "tmp", "var"] {
        std::fs::create_dir(root.path().join(directory)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| Path::new(path).exists());
    let Some(busybox) = busybox else {
        println!("skipped: busybox is not installed");
        return None;
    };
    std::fs::copy(busybox, root.path().join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "true", "echo", "ls"] {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).unwrap();
    }
    gnu_tar(root.path(), &["--format=posix"])
}

/// Records an image of the layers' tars, from the base up.
pub(crate) fn image(store: &Store, name: &str, tars: &[&[u8]]) -> ImageId {
    let mut top = None;
    for tar in tars {
        top = Some(layer(store, top.as_ref(), tar));
    }
    store.sync().unwrap();
    let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09.5Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [],
    });
    let config = serde_json::to_vec(&config).unwrap();
    let media = "application/vnd.oci.image";
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| {
            serde_json::json!({"mediaType": format!("{media}.layer.v1.tar"),
                "digest": sha256(tar).to_string(), "size": tar.len()})
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": format!("{media}.manifest.v1+json"),
        "config": {"mediaType": format!("{media}.config.v1+json"),
            "digest": sha256(&config).to_string(), "size": config.len()},
        "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let id = ImageId::parse(sha256(&config).hex()).unwrap();
    let manifest_key = format!("manifest-{}", sha256(&manifest));
    let new = NewImage {
        id: id.clone(),
        names: vec![name.to_owned()],
        layer: top,
        metadata: "{}".into(),
        created: Some("2024-05-06T07:08:09.5Z".into()),
        big_data: vec![
            BigData::new(sha256(&config).to_string(), config),
            BigData::new(manifest_key, manifest.clone()),
            BigData::new("manifest", manifest),
        ],
    };
    store.create_image(new).unwrap();
    id
}

/// Whether something that may be on its way to be removed is still there when that had its time.
pub(crate) fn stays(path: &Path) -> bool {
    for _ in 0..500 {
        if path.symlink_metadata().is_err() {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    true
}
