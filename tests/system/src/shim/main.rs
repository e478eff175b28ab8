//! A containerd shim v2 for tests: an implementation of the protocol that shares nothing with the client but the
//! messages. Its containers are made by the built-in runtime of the daemon under test.
//!
//! It is started as those of containerd 2.3 and later are (parameters at its standard input, without which it refuses,
//! and version 3 as the answer, in protobuf), serves at a name in the abstract namespace, counts like cgroup v2 whatever the host
//! has, and misbehaves as a label of the pod says (`shim: <word>`).
#![forbid(unsafe_code)]

mod serve;
mod tasks;
mod wire;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use crioxide_shim_client::messages::{BootstrapParams, BootstrapResult, DeleteResponse, Timestamp};
use prost::Message as _;
use serde_json::Value;

/// How the program was called.
#[derive(Debug, Default)]
struct Call {
    id: String,
    publisher: String,
    action: String,
}

/// Flags with a value, as Go's flag package takes them.
const FLAGS: [&str; 5] = [
    "-namespace",
    "-address",
    "-publish-binary",
    "-id",
    "-bundle",
];

fn main() -> Result<()> {
    let call = parse(std::env::args().skip(1))?;
    let bundle = std::env::current_dir()?;
    match call.action.as_str() {
        "start" => start(&call, &bundle),
        "delete" => delete(&call, &bundle),
        "serve" => serve::run(Path::new(&call.publisher), &bundle),
        other => bail!("`{other}` is nothing that a shim does"),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Call> {
    let mut call = Call::default();
    while let Some(word) = words.next() {
        if FLAGS.contains(&word.as_str()) {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "-id" => call.id = value,
                "-publish-binary" => call.publisher = value,
                _ => {}
            }
        } else if word != "-debug" {
            call.action = word;
        }
    }
    Ok(call)
}

/// What the bundle says of its pod.
struct Pod {
    id: String,
    config: String,
}

impl Pod {
    fn of(bundle: &Path) -> Result<Self> {
        let config = std::fs::read_to_string(bundle.join("config.json"))?;
        let parsed: Value = serde_json::from_str(&config)?;
        let id = &parsed["annotations"]["io.kubernetes.cri.sandbox-id"];
        let id = id.as_str().context("no pod in the annotations")?.to_owned();
        Ok(Self { id, config })
    }

    /// Whether its test wants this of it. Labels are recorded as JSON in JSON.
    fn wants(&self, word: &str) -> bool {
        self.config.contains(&format!(r#"\"shim\":\"{word}\""#))
    }

    fn socket(&self) -> String {
        format!("crioxidetest-shim/{}", self.id)
    }

    /// State of the runtime, in the pod's own bundle.
    fn runtime_root(&self, bundle: &Path) -> Result<PathBuf> {
        let all = bundle
            .ancestors()
            .nth(2)
            .context("a bundle without a place")?;
        Ok(all.join(&self.id).join("userdata/shim-oci"))
    }
}

fn start(call: &Call, bundle: &Path) -> Result<()> {
    let mut parameters = Vec::new();
    std::io::stdin().read_to_end(&mut parameters)?;
    if parameters.is_empty() {
        bail!("shim was started through the deprecated API but was built against the new API");
    }
    let parameters = BootstrapParams::decode(&*parameters)?;
    if parameters.instance_id != call.id || parameters.namespace.is_empty() {
        bail!("it is not told for whom it is started: {parameters:?}");
    }
    let pod = Pod::of(bundle)?;
    if pod.wants("fails") {
        eprintln!("there is no such hypervisor");
        std::process::exit(3);
    }
    if pod.wants("hangs") {
        loop {
            std::thread::park();
        }
    }
    let mut answer = std::io::stdout();
    if pod.wants("babbles") {
        return Ok(writeln!(answer, "hello, world")?);
    }
    let address = SocketAddr::from_abstract_name(pod.socket())?;
    if UnixStream::connect_addr(&address).is_err() {
        let listener = UnixListener::bind_addr(&address)?;
        Command::new(std::env::current_exe()?)
            .args(["-publish-binary", &call.publisher, "serve"])
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
    }
    let address = format!("unix://@{}", pod.socket());
    let result = BootstrapResult {
        version: 3,
        address,
        protocol: "ttrpc".to_owned(),
    };
    Ok(answer.write_all(&result.encode_to_vec())?)
}

fn delete(call: &Call, bundle: &Path) -> Result<()> {
    let root = Pod::of(bundle)?.runtime_root(bundle)?;
    let deleted = Command::new(&call.publisher)
        .arg("oci")
        .arg("--root")
        .arg(root)
        .args(["delete", "--force", &call.id])
        .stdout(Stdio::null())
        .status()?;
    if !deleted.success() {
        bail!("the runtime did not delete {}", call.id);
    }
    let response = DeleteResponse {
        pid: 0,
        exit_status: 137,
        exited_at: Some(now()),
    };
    Ok(std::io::stdout().write_all(&response.encode_to_vec())?)
}

/// The time of an end that is noticed now.
fn now() -> Timestamp {
    let age = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(age.subsec_nanos()).unwrap_or(0),
    }
}
