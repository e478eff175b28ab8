//! One pod's monitor with its directories, and containers in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crioxide_monitor_client::{
    Connected, ContainerLog, CreateContainer, Created, ExitReport, Monitor, MonitorConfig,
    MonitorError, MonitorEvent, RuntimeCommand, Spawner, StdinMode, StdioMode,
};
use crioxide_oci_runtime::{CgroupDriver, CommandRuntime, DeleteMode, OciRuntime};
use crioxide_oci_runtime_builtin::BuiltinRuntime;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::bundle;

/// The runtime a test runs with.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) path: PathBuf,
}

impl Runtime {
    /// Those that work on this host; the others are said to be skipped.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = Vec::new();
        if bundle::busybox().is_none() {
            println!("skipped: needs a static busybox");
            return found;
        }
        found.push(Self {
            path: "built-in".into(),
        });
        for path in ["/usr/bin/runc", "/usr/sbin/runc", "/usr/bin/crun"] {
            let runtime = Self { path: path.into() };
            if !runtime.path.exists()
                || found
                    .iter()
                    .any(|other: &Self| other.name() == runtime.name())
            {
                continue;
            }
            match runtime.try_out() {
                Ok(()) => found.push(runtime),
                Err(reason) => println!("skipped: {path} cannot run containers here: {reason}"),
            }
        }
        found
    }

    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(OsStr::to_str).unwrap()
    }

    /// The one built in has no path.
    pub(crate) fn is_builtin(&self) -> bool {
        self.path.is_relative()
    }

    /// How the monitor is to call it.
    pub(crate) fn command(&self, root: PathBuf) -> RuntimeCommand {
        if self.is_builtin() {
            return RuntimeCommand::Builtin {
                root,
                systemd_cgroup: false,
            };
        }
        RuntimeCommand::Command {
            path: self.path.clone(),
            root,
            systemd_cgroup: false,
            args: Vec::new(),
        }
    }

    /// How it is called for everything else.
    fn handle(&self, root: PathBuf) -> Box<dyn OciRuntime> {
        if self.is_builtin() {
            return Box::new(BuiltinRuntime::new(root));
        }
        Box::new(CommandRuntime::new(
            &self.path,
            root,
            CgroupDriver::Cgroupfs,
        ))
    }

    /// Runs `true` by the runtime alone.
    fn try_out(&self) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let root = bundle::make_root(directory.path());
        let id = format!("crioxide-try-{}", std::process::id());
        let cgroup = format!("/{id}");
        bundle::write_config(
            directory.path(),
            &root,
            &cgroup,
            bundle::process("true", false),
            json!({}),
        );
        let output = std::process::Command::new(&self.path)
            .arg("--root")
            .arg(directory.path().join("state"))
            .args(["run", "--bundle"])
            .arg(directory.path())
            .arg(&id)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(());
        }
        let _ = std::process::Command::new(&self.path)
            .arg("--root")
            .arg(directory.path().join("state"))
            .args(["delete", "--force", &id])
            .output();
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// A pod of one test.
pub(crate) struct Pod {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) runtime: std::sync::Arc<dyn OciRuntime>,
    pub(crate) monitor: Monitor,
    pub(crate) events: mpsc::Receiver<MonitorEvent>,
    kind: Runtime,
    root: PathBuf,
    _spawner: Spawner,
    name: String,
    created: std::cell::RefCell<Vec<String>>,
}

impl Pod {
    pub(crate) async fn start(runtime: &Runtime) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("crioxide-pod-{}-{number}", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let spawner = Spawner::start(&program, &[OsStr::new(crate::SPAWNER_ROLE)]).unwrap();
        for inner in ["pod", "exits", "attach", "state"] {
            fs::create_dir(directory.path().join(inner)).unwrap();
        }
        let socket = directory.path().join("pod/monitor.sock");
        let config = MonitorConfig {
            pod: name.clone(),
            socket,
            cgroup: None,
        };
        let Connected {
            monitor,
            containers,
            events,
        } = spawner.spawn_monitor(config).await.unwrap();
        assert!(containers.is_empty());
        let root = bundle::make_root(directory.path());
        let handle = runtime.handle(directory.path().join("state"));
        Self {
            directory,
            runtime: handle.into(),
            monitor,
            events,
            kind: runtime.clone(),
            root,
            _spawner: spawner,
            name,
            created: Default::default(),
        }
    }

    pub(crate) fn id(&self, short: &str) -> String {
        format!("{}-{short}", self.name)
    }

    pub(crate) fn bundle(&self, short: &str) -> PathBuf {
        self.directory.path().join("bundles").join(self.id(short))
    }

    pub(crate) fn log(&self, short: &str) -> PathBuf {
        self.directory.path().join(format!("{short}.log"))
    }

    pub(crate) fn exit_file(&self, short: &str) -> PathBuf {
        self.directory.path().join("exits").join(self.id(short))
    }

    /// Prepares a bundle and the request that makes it a container.
    pub(crate) fn request(&self, short: &str, process: Value, resources: Value) -> CreateContainer {
        let bundle = self.bundle(short);
        let cgroup = format!("/{}/{short}", self.name);
        let terminal = process["terminal"] == true;
        bundle::write_config(&bundle, &self.root, &cgroup, process, resources);
        let persist_dir = bundle.join("persistent");
        fs::create_dir_all(&persist_dir).unwrap();
        CreateContainer {
            id: self.id(short),
            bundle,
            runtime: self.kind.command(self.directory.path().join("state")),
            stdio: if terminal {
                StdioMode::Terminal
            } else {
                StdioMode::Pipes
            },
            stdin: StdinMode::Closed,
            log: ContainerLog {
                path: self.log(short),
                size_max: None,
                sync: false,
                journal: None,
            },
            exit_dir: self.directory.path().join("exits"),
            persist_dir,
            attach_socket_dir: self.directory.path().join("attach"),
            cgroup: Some(cgroup),
            no_pivot: false,
            timeout_ms: 60_000,
        }
    }

    pub(crate) async fn create(&self, request: CreateContainer) -> Result<Created, MonitorError> {
        self.created.borrow_mut().push(request.id.clone());
        self.monitor.create(request).await
    }

    /// Creates and starts a shell script.
    pub(crate) async fn run(&self, short: &str, script: &str) {
        let request = self.request(short, bundle::process(script, false), json!({}));
        self.create(request).await.unwrap();
        self.start_created(short).await;
    }

    pub(crate) async fn start_created(&self, short: &str) {
        let (runtime, id) = (std::sync::Arc::clone(&self.runtime), self.id(short));
        tokio::task::spawn_blocking(move || runtime.start(&id))
            .await
            .unwrap()
            .unwrap();
    }

    /// Waits for the end of this container; events of others are dropped.
    pub(crate) async fn exit(&mut self, short: &str) -> ExitReport {
        let wanted = self.id(short);
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("it did not end") {
                Some(MonitorEvent::Exited { id, exit }) if id == wanted => return exit,
                Some(MonitorEvent::Gone) | None => panic!("the monitor is gone"),
                Some(_) => {}
            }
        }
    }

    /// The log without the times.
    pub(crate) fn log_lines(&self, short: &str) -> Vec<String> {
        lines_of(&self.log(short))
    }
}

pub(crate) fn lines_of(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .map(|line| line.split_once(' ').map_or("", |(_, rest)| rest).to_owned())
        .collect()
}

/// Much longer than anything takes here, and well below the test runner's own limit, which would hide where it waited.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "it did not come to be");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for id in self.created.borrow().iter() {
            let _ = self.runtime.delete(id, DeleteMode::Force);
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.monitor.pid()) {
            // One that was killed by its test and reaped may have given its number to nobody yet; the name is checked.
            let name = fs::read_to_string(format!("/proc/{}/comm", self.monitor.pid()))
                .unwrap_or_default();
            if name.trim() == "crioxide-mon" {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_dir(hierarchy.path().join(&self.name));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.name));
    }
}
