//! OCI bundles around a static busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Where Debian and others put the static busybox.
const BUSYBOX: [&str; 3] = [
    "/bin/busybox",
    "/usr/bin/busybox",
    "/usr/lib/busybox/busybox-static",
];

pub(crate) fn busybox() -> Option<&'static Path> {
    BUSYBOX.iter().map(Path::new).find(|path| path.exists())
}

/// Makes `<directory>/rootfs` with a busybox in it.
pub(crate) fn make_root(directory: &Path) -> PathBuf {
    let root = directory.join("rootfs");
    for inner in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
        fs::create_dir_all(root.join(inner)).unwrap();
    }
    fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "sleep", "echo", "head", "tr", "stty", "tail", "yes", "seq", "true", "kill",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    root
}

/// The `process` part: a shell script.
pub(crate) fn process(script: &str, terminal: bool) -> Value {
    json!({
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}
    })
}

/// Writes `config.json`.
pub(crate) fn write_config(
    bundle: &Path,
    root: &Path,
    cgroup: &str,
    process: Value,
    resources: Value,
) {
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": true},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": resources,
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]
        }
    });
    fs::create_dir_all(bundle).unwrap();
    fs::write(
        bundle.join("config.json"),
        serde_json::to_vec(&config).unwrap(),
    )
    .unwrap();
}
