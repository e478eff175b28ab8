//! A throw-away host with pods.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crioxide_cni::{Cni, CniSettings, HostPorts, PodNetwork, Preference, Timeouts};
use crioxide_cni_plugins::Builtin;
use crioxide_netlink::{
    IpVlanMode, Link, LinkKind, LinkRequests, LinkSpec, MacAddress, MacVlanMode, Netns,
    RouteSocket, VethSpec,
};

/// Longest wait for something that happens soon; running into it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A network namespace that lives as long as this value.
pub(crate) struct Namespace {
    holder: Child,
    pub(crate) netns: Netns,
}

/// A host of its own: namespace and directories.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) dir: tempfile::TempDir,
}

/// A pod with its namespace.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) network: PodNetwork,
}

/// Whether tests that need root can run; says so when not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "ready");
        let netns = Netns::open(&PathBuf::from(format!("/proc/{}/ns/net", holder.id()))).unwrap();
        Self { holder, netns }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.netns.path().to_owned()
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        RouteSocket::open_in(&self.netns).unwrap().links().unwrap()
    }

    pub(crate) fn link(&self, name: &str) -> Option<Link> {
        self.links().into_iter().find(|link| link.name == name)
    }

    pub(crate) fn addresses(&self, name: &str) -> Vec<String> {
        let mut socket = RouteSocket::open_in(&self.netns).unwrap();
        let link = socket.link_by_name(name).unwrap().unwrap();
        let addresses = socket.addresses(link.index).unwrap().into_iter();
        let mut texts: Vec<_> = addresses
            .map(|address| address.to_string())
            .filter(|address| !address.starts_with("fe80"))
            .collect();
        texts.sort();
        texts
    }

    pub(crate) fn listen(&self, address: &str) -> TcpListener {
        self.run(|| TcpListener::bind(address).unwrap())
    }

    pub(crate) fn connect(&self, ip: IpAddr, port: u16) -> io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(5)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new();
        let mut requests = LinkRequests::default();
        requests.set_up(1);
        requests
            .send(&mut RouteSocket::open_in(&namespace.netns).unwrap())
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["net.d", "plugins", "cache", "ipam"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { namespace, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn settings(&self) -> CniSettings {
        CniSettings {
            conf_dir: self.path("net.d"),
            plugin_dirs: vec![self.path("plugins")],
            cache_dir: self.path("cache"),
            default_network: None,
            builtin: Box::new(Builtin::default()),
            preference: Preference::Executable,
            fallback_bridge: None,
            host_ports: HostPorts::Mapped,
            timeouts: Timeouts::default(),
        }
    }

    pub(crate) fn cni(&self) -> Cni {
        Cni::new(self.settings())
    }

    /// Writes a network list; `plugins` is the text of the array.
    pub(crate) fn configure(&self, file: &str, version: &str, name: &str, plugins: &str) {
        let text = format!(r#"{{"cniVersion":"{version}","name":"{name}","plugins":{plugins}}}"#);
        fs::write(self.path("net.d").join(file), text).unwrap();
    }

    /// The bridge plugin's configuration on this host's own directories.
    pub(crate) fn bridge(&self, name: &str, ranges: &str, extra: &str) -> String {
        format!(
            r#"{{"type":"bridge","bridge":"{name}","isDefaultGateway":true{extra},
                "ipam":{{"type":"host-local","ranges":{ranges},"dataDir":{:?}}}}}"#,
            self.path("ipam")
        )
    }

    /// Addresses in use on `network`.
    pub(crate) fn reserved(&self, network: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("ipam").join(network)) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut reserved: Vec<_> = names
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect();
        reserved.sort();
        reserved
    }

    pub(crate) fn records(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("cache/results")) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Says in every record that the plugins were programs if they were built in, and the other way
    /// round: the other implementation then does what is left to do.
    pub(crate) fn swap_makers(&self) {
        for name in self.records() {
            let path = self.path("cache/results").join(name);
            let mut record: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let were_built_in = record["crioxide"]["builtin"]
                .as_array()
                .is_some_and(|types| !types.is_empty());
            record["crioxide"]["builtin"] = if were_built_in {
                serde_json::json!([])
            } else {
                serde_json::json!(crioxide_cni_plugins::PLUGIN_TYPES)
            };
            fs::write(&path, record.to_string()).unwrap();
        }
    }

    /// A host-local section on this host's own directory.
    pub(crate) fn ipam(&self, subnets: &[&str], routes: &[&str]) -> serde_json::Value {
        let ranges: Vec<_> = subnets
            .iter()
            .map(|subnet| serde_json::json!([{"subnet": subnet}]))
            .collect();
        let routes: Vec<_> = routes
            .iter()
            .map(|route| serde_json::json!({"dst": route}))
            .collect();
        serde_json::json!({"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": self.path("ipam")})
    }

    /// Makes a link on the host that leads nowhere, up.
    pub(crate) fn stub(&self, name: &str) -> Link {
        let mut socket = RouteSocket::open_in(&self.namespace.netns).unwrap();
        let mut requests = LinkRequests::default();
        let peer = format!("{name}-peer");
        requests.create_veth(&VethSpec {
            name,
            mac: MacAddress::generate().unwrap(),
            peer_name: &peer,
            peer_mac: MacAddress::generate().unwrap(),
            peer_netns: &self.namespace.netns,
            mtu: None,
            master: None,
        });
        requests.send(&mut socket).unwrap();
        let peer = socket.link_by_name(&peer).unwrap().unwrap();
        let mut requests = LinkRequests::default();
        requests.set_up(peer.index);
        requests.send(&mut socket).unwrap();
        socket.link_by_name(name).unwrap().unwrap()
    }

    /// Whether the kernel has links of this kind; says so when not. There must be a link `up0`.
    pub(crate) fn has_kind(&self, kind: &str) -> bool {
        let kind_of = |kind: &str| match kind {
            "dummy" => LinkKind::Dummy,
            "ipvlan" => LinkKind::IpVlan(IpVlanMode::L2),
            "macvlan" => LinkKind::MacVlan(MacVlanMode::Bridge, None),
            "vlan" => LinkKind::Vlan(4000),
            _ => LinkKind::Vrf(4000),
        };
        let mut socket = RouteSocket::open_in(&self.namespace.netns).unwrap();
        let parent = socket.link_by_name("up0").unwrap();
        let needs_parent = !matches!(kind, "dummy" | "vrf");
        let mut requests = LinkRequests::default();
        requests.create_link(&LinkSpec {
            name: "probe0",
            kind: kind_of(kind),
            netns: None,
            parent: parent.filter(|_| needs_parent).map(|link| link.index),
            mac: None,
            mtu: None,
        });
        match requests.send(&mut socket) {
            Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP) => {
                eprintln!("skipped: this kernel has no links of kind {kind}");
                return false;
            }
            made => made.unwrap(),
        }
        let mut requests = LinkRequests::default();
        requests.delete_link("probe0");
        requests.send(&mut socket).unwrap();
        true
    }

    /// What `nft list ruleset` shows on the host; empty where the program is missing.
    pub(crate) fn ruleset(&self) -> String {
        let output = self
            .namespace
            .run(|| Command::new("nft").args(["list", "ruleset"]).output());
        output
            .map(|output| String::from_utf8(output.stdout).unwrap())
            .unwrap_or_default()
    }

    pub(crate) fn veths(&self) -> Vec<String> {
        let links = self.namespace.links().into_iter();
        links
            .filter(|link| link.kind == "veth" && link.name.starts_with("veth"))
            .map(|link| link.name)
            .collect()
    }

    /// Puts a shell script where plugins are looked for.
    pub(crate) fn plugin(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("plugins").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Pod {
    pub(crate) fn new(id: &str) -> Self {
        let namespace = Namespace::new();
        let network = PodNetwork {
            id: id.to_owned(),
            name: format!("pod-{id}"),
            namespace: "default".to_owned(),
            uid: format!("uid-{id}"),
            netns: namespace.path(),
            ifname: "eth0".to_owned(),
            ..PodNetwork::default()
        };
        Self { namespace, network }
    }
}

/// Sends a line both ways over a new connection from `client` and tells who the server saw.
pub(crate) fn talk(
    server: &TcpListener,
    client: &Namespace,
    ip: IpAddr,
    port: u16,
) -> io::Result<IpAddr> {
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            server.set_nonblocking(true)?;
            let end = Instant::now() + Duration::from_secs(8);
            let (mut stream, peer) = loop {
                match server.accept() {
                    Err(error)
                        if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end =>
                    {
                        thread::sleep(Duration::from_millis(1));
                    }
                    accepted => break accepted?,
                }
            };
            stream.set_nonblocking(false)?;
            stream.write_all(b"hello")?;
            Ok::<_, io::Error>(peer.ip())
        });
        let mut stream = client.connect(ip, port)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = [0; 5];
        stream.read_exact(&mut text)?;
        assert_eq!(&text, b"hello");
        serving.join().unwrap()
    })
}

/// Waits until `done`, or fails.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "still waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
