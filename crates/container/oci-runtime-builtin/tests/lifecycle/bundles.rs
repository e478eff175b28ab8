//! Throw-away bundles with a busybox root, and containers that are given back whatever happens.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crioxide_cgroups::Driver;
use crioxide_oci_runtime::{DeleteMode, OciRuntime};
use crioxide_oci_runtime_builtin::{
    BuiltinRuntime, CreateRequest, ExecRequest, InitParent, RootSwitch, SessionKeyring, create,
    exec,
};
use crioxide_sys::descriptors::place_at;
use crioxide_sys::fork::{Fork, exit_now, fork};
use crioxide_sys::reap::{Ending, wait_for};
use rustix::process::Pid;
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// Whether containers can be made here; says so if not.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    } else if !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: needs a static busybox at {BUSYBOX}");
    }
    root && Path::new(BUSYBOX).exists()
}

/// A bundle, its state directory and the container made from it.
pub(crate) struct TestContainer {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) config: Value,
    pub(crate) id: String,
}

/// What a container wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) output: String,
    pub(crate) ending: Ending,
}

/// A created container: its first process, a child of the test, and the read end of its output.
pub(crate) struct Waiting {
    pub(crate) pid: Pid,
    pub(crate) output: File,
}

impl TestContainer {
    /// A bundle that runs a shell script.
    pub(crate) fn new(script: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let rootfs = directory.path().join("rootfs");
        for part in ["bin", "dev", "etc", "proc", "sys", "tmp", "data"] {
            fs::create_dir_all(rootfs.join(part)).unwrap();
        }
        // A link, since a copy's descriptor would reach children that other tests fork meanwhile: the program would be busy.
        fs::hard_link(BUSYBOX, rootfs.join("bin/busybox")).unwrap();
        for name in [
            "sh", "cat", "id", "ls", "sleep", "mount", "touch", "stat", "grep", "echo", "test",
            "readlink", "hostname", "tty", "kill", "chown", "ulimit", "head", "true", "mknod",
        ] {
            symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n",
        )
        .unwrap();
        let id = format!(
            "oci-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let config = default_config(&id, script);
        Self {
            directory,
            config,
            id,
        }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn runtime(&self) -> BuiltinRuntime {
        BuiltinRuntime::new(self.state_root())
    }

    /// Changes a part of the configuration, named by JSON pointer; missing parts are made.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut place = &mut self.config;
        for part in pointer.split('/').skip(1) {
            place = &mut place[part];
        }
        *place = value;
        self
    }

    pub(crate) fn add_mount(&mut self, mount: Value) -> &mut Self {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Creates the container in a forked child, as a monitor does. The error is the text of the chain.
    pub(crate) fn create(&self) -> Result<Waiting, String> {
        self.create_with(|_| {})
    }

    /// As [`TestContainer::create`], with changes to the request made in the child.
    pub(crate) fn create_with(
        &self,
        change: impl FnOnce(&mut CreateRequest<'_>),
    ) -> Result<Waiting, String> {
        fs::write(
            self.directory.path().join("config.json"),
            self.config.to_string(),
        )
        .unwrap();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let (output, output_end) = pipe();
        let (answer, answer_end) = pipe();
        let root = self.state_root();
        match fork().unwrap() {
            Fork::Child => {
                place_at(File::open("/dev/null").unwrap(), 0).unwrap();
                place_at(&output_end, 1).unwrap();
                place_at(&output_end, 2).unwrap();
                let mut request = CreateRequest {
                    id: &self.id,
                    bundle: self.directory.path(),
                    root: &root,
                    pid_file: None,
                    console_socket: None,
                    root_switch: RootSwitch::Pivot,
                    cgroup_driver: Driver::Cgroupfs,
                    preserved_descriptors: 0,
                    keyring: SessionKeyring::New,
                    init_parent: InitParent::Caller,
                };
                change(&mut request);
                let text = match create(request) {
                    Ok(created) => format!(
                        "{}\n{}",
                        created.pid.as_raw_nonzero(),
                        created.warnings.join("\n")
                    ),
                    Err(error) => format!("failed: {}", chain(&error)),
                };
                let _ = rustix::io::write(&answer_end, text.as_bytes());
                exit_now(0)
            }
            Fork::Parent(creator) => {
                drop((output_end, answer_end));
                let mut text = String::new();
                File::from(answer).read_to_string(&mut text).unwrap();
                assert_eq!(wait_for(creator).unwrap(), Ending::Exited(0));
                match text.lines().next().unwrap_or("died").parse() {
                    Ok(pid) => Ok(Waiting {
                        pid: Pid::from_raw(pid).unwrap(),
                        output: output.into(),
                    }),
                    Err(_) => Err(text),
                }
            }
        }
    }

    /// Creates, starts, and waits for the end.
    pub(crate) fn run(&self) -> Result<Outcome, String> {
        let waiting = self.create()?;
        self.runtime()
            .start(&self.id)
            .map_err(|error| chain(&error))?;
        Ok(waiting.finish())
    }
}

impl Waiting {
    /// Waits for the end and collects the output.
    pub(crate) fn finish(mut self) -> Outcome {
        let mut output = Vec::new();
        self.output.read_to_end(&mut output).unwrap();
        let ending = wait_for(self.pid).unwrap();
        Outcome {
            output: String::from_utf8_lossy(&output).into_owned(),
            ending,
        }
    }
}

impl Drop for TestContainer {
    fn drop(&mut self) {
        let deleted = self.runtime().delete(&self.id, DeleteMode::Force);
        if !std::thread::panicking() {
            deleted.unwrap();
        }
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    assert!(read.as_raw_fd() > 2 && write.as_raw_fd() > 2);
    (read, write)
}

fn default_config(id: &str, script: &str) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE"
    ]);
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "testhost",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 67108864}},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}

/// Runs a process in a container and collects its output and ending.
pub(crate) fn exec_in(container: &TestContainer, process: Value) -> Result<Outcome, String> {
    let process: oci_spec::runtime::Process = serde_json::from_value(process).unwrap();
    let (output, output_end) = pipe();
    let (answer, answer_end) = pipe();
    let root = container.state_root();
    match fork().unwrap() {
        Fork::Child => {
            place_at(File::open("/dev/null").unwrap(), 0).unwrap();
            place_at(&output_end, 1).unwrap();
            place_at(&output_end, 2).unwrap();
            let text = match exec(ExecRequest {
                id: &container.id,
                root: &root,
                process: &process,
                pid_file: None,
                console_socket: None,
                preserved_descriptors: 0,
                // It reaps what fails, and leaves what runs to the test, its subreaper.
                parent: InitParent::Creator,
            }) {
                Ok(executed) => executed.pid.as_raw_nonzero().to_string(),
                Err(error) => format!("failed: {}", chain(&error)),
            };
            let _ = rustix::io::write(&answer_end, text.as_bytes());
            exit_now(0)
        }
        Fork::Parent(child) => {
            drop((output_end, answer_end));
            let mut text = String::new();
            File::from(answer).read_to_string(&mut text).unwrap();
            assert_eq!(wait_for(child).unwrap(), Ending::Exited(0));
            let pid = text.parse().map_err(|_| text)?;
            Ok(Waiting {
                pid: Pid::from_raw(pid).unwrap(),
                output: output.into(),
            }
            .finish())
        }
    }
}
