//! The networks that clusters run, each with its own configuration file as its installer writes it:
//! with the real plugin where it is at hand, otherwise with a stand-in that keeps its contract.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crioxide_cni::{Cni, CniSettings, PortMapping, Protocol};
use serde_json::json;

use crate::contract::{for_each, reference_dir, shape};
use crate::fixture::{Host, Pod, exists, is_root, talk};

/// A plugin that passes on to an agent.
struct Provider {
    /// The file as the installer names and writes it.
    file: &'static str,
    config: &'static str,
    plugin: &'static str,
    version: &'static str,
    /// How its links on the host begin.
    prefix: &'static str,
    gateway: &'static str,
    no_agent_code: u32,
    no_agent: &'static str,
    queues_deletions: bool,
    /// Shell that prints the result of `$1` address and `$2` link.
    result: &'static str,
    checks: bool,
}

const WEAVE: Provider = Provider {
    file: "10-weave.conflist",
    config: r#"{"cniVersion":"0.3.0","name":"weave","plugins":[{"name":"weave","type":"weave-net","hairpinMode":true},
        {"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}"#,
    plugin: "weave-net",
    version: "0.3.0",
    prefix: "vethwepl",
    gateway: "10.61.0.1",
    no_agent_code: 100,
    no_agent: "unable to allocate IP address: Post http://127.0.0.1:6784/ip/: connect: connection refused",
    queues_deletions: false,
    result: r#"printf '{"cniVersion":"0.3.0","ips":[{"version":"4","address":"%s/32","gateway":"%s"}],"dns":{}}' "$1" "$GATEWAY""#,
    checks: false,
};

const CILIUM: Provider = Provider {
    file: "05-cilium.conflist",
    config: r#"{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni","enable-debug":false,
        "log-file":"/var/run/cilium/cilium-cni.log"}]}"#,
    plugin: "cilium-cni",
    version: "0.3.1",
    prefix: "lxc",
    gateway: "10.61.0.1",
    no_agent_code: 11,
    no_agent: "unable to connect to Cilium agent: failed to create cilium agent client: dial unix /var/run/cilium/cilium.sock",
    queues_deletions: true,
    result: r#"printf '{"cniVersion":"0.3.1","interfaces":[{"name":"%s"},{"name":"eth0","sandbox":"%s"}],"ips":[{"version":"4","interface":1,"address":"%s/32","gateway":"%s"}],"routes":[{"dst":"%s/32"},{"dst":"0.0.0.0/0","gw":"%s"}],"dns":{}}' "$2" "$CNI_NETNS" "$1" "$GATEWAY" "$GATEWAY" "$GATEWAY""#,
    checks: false,
};

const CALICO: Provider = Provider {
    file: "10-calico.conflist",
    config: r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","log_level":"info",
        "datastore_type":"kubernetes","nodename":"node","mtu":0,"ipam":{"type":"calico-ipam"},"policy":{"type":"k8s"},
        "kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},
        {"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#,
    plugin: "calico",
    version: "0.3.1",
    prefix: "cali",
    gateway: "169.254.1.1",
    no_agent_code: 999,
    no_agent: "stat /var/lib/calico/nodename: no such file or directory: check that the calico/node container is running",
    queues_deletions: false,
    result: r#"printf '{"cniVersion":"0.3.1","interfaces":[{"name":"%s"}],"ips":[{"version":"4","address":"%s/32"}],"dns":{}}' "$2" "$1""#,
    checks: false,
};

const OPENSHIFT_SDN: Provider = Provider {
    file: "80-openshift-network.conf",
    config: r#"{"cniVersion":"0.3.1","name":"openshift-sdn","type":"openshift-sdn"}"#,
    plugin: "openshift-sdn",
    version: "0.3.1",
    prefix: "veth",
    gateway: "10.61.0.1",
    no_agent_code: 100,
    no_agent: "failed to send CNI request: Post http://dummy/: dial unix /var/run/openshift-sdn/cniserver/socket: connect: no such file or directory",
    queues_deletions: false,
    result: r#"printf '{"cniVersion":"0.3.1","interfaces":[{"name":"%s"},{"name":"eth0","sandbox":"%s"}],"ips":[{"version":"4","interface":1,"address":"%s/32"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"224.0.0.0/4"}],"dns":{}}' "$2" "$CNI_NETNS" "$1""#,
    checks: false,
};

const OVN_KUBERNETES: Provider = Provider {
    file: "10-ovn-kubernetes.conf",
    config: r#"{"cniVersion":"0.4.0","name":"ovn-kubernetes","type":"ovn-k8s-cni-overlay","ipam":{},"dns":{},
        "logFile":"/var/log/ovn-kubernetes/ovn-k8s-cni-overlay.log","logLevel":"4","logfile-maxsize":100}"#,
    plugin: "ovn-k8s-cni-overlay",
    version: "0.4.0",
    prefix: "ovn",
    gateway: "10.61.0.1",
    no_agent_code: 100,
    no_agent: "CNI request failed with status 400: dial unix /var/run/ovn-kubernetes/cni/ovn-cni-server.sock: connect: no such file",
    queues_deletions: false,
    result: r#"printf '{"cniVersion":"0.4.0","interfaces":[{"name":"%s","mac":"0a:58:0a:3d:00:02"},{"name":"eth0","mac":"0a:58:0a:3d:00:02","sandbox":"%s"}],"ips":[{"version":"4","interface":1,"address":"%s/32","gateway":"%s"}],"dns":{}}' "$2" "$CNI_NETNS" "$1" "$GATEWAY""#,
    checks: true,
};

/// Pods of one network: up, talking to each other and to a host port, down; and without the agent.
fn agent_network(provider: &Provider) {
    if !is_root() {
        return;
    }
    let host = Host::new();
    fs::write(host.path("net.d").join(provider.file), provider.config).unwrap();
    let quoted = |text: &str| format!("'{text}'");
    let script = format!(
        "VERSION={}\nPREFIX={}\nGATEWAY={}\nNO_AGENT_CODE={}\nNO_AGENT={}\nQUEUES_DELETIONS={}\nresult() {{\n{}\n}}\n{}",
        provider.version,
        provider.prefix,
        provider.gateway,
        provider.no_agent_code,
        quoted(provider.no_agent),
        if provider.queues_deletions {
            "yes"
        } else {
            "no"
        },
        provider.result,
        include_str!("providers/agent.sh"),
    );
    host.plugin(provider.plugin, &script);
    // Called by Calico's plugin only; it must be there.
    host.plugin("calico-ipam", "exit 1");
    let cni = host.cni();
    host.namespace.run(|| {
        cni.status().unwrap();
        without_agent(provider, &host, &cni);

        fs::write(host.path("agent"), "").unwrap();
        let (mut one, two) = (Pod::new("aaaaaaaa"), Pod::new("bbbbbbbb"));
        one.network.port_mappings = vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: String::new(),
        }];
        let added = cni.add(&one.network).unwrap();
        cni.add(&two.network).unwrap();
        assert_eq!(
            added.ips,
            ["10.61.0.2".parse::<std::net::IpAddr>().unwrap()]
        );
        let server = one.namespace.listen("0.0.0.0:80");
        talk(&server, &two.namespace, added.ips[0], 80).unwrap();
        talk(&server, &host.namespace, added.ips[0], 80).unwrap();
        talk(&server, &host.namespace, "127.0.0.1".parse().unwrap(), 8080).unwrap();
        if provider.checks {
            cni.check(&one.network).unwrap();
        }
        removal(provider, &host, &cni, one, two);
    });
}

/// A pod fails with what the plugin said, and nothing of it stays when the agent is back.
fn without_agent(provider: &Provider, host: &Host, cni: &Cni) {
    let pod = Pod::new("cccccccc");
    let error = cni.add(&pod.network).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(provider.no_agent), "{cause}");
    // DEL failed as well, where deletions are not queued; it is kept for later.
    assert_eq!(host.records().is_empty(), provider.queues_deletions);
    fs::write(host.path("agent"), "").unwrap();
    cni.del_again("cccccccc", "eth0").unwrap();
    assert!(host.records().is_empty());
    fs::remove_file(host.path("agent")).unwrap();
}

/// One by one: as usual, and while the agent is away.
fn removal(provider: &Provider, host: &Host, cni: &Cni, one: Pod, two: Pod) {
    cni.del(&one.network).unwrap();
    assert_eq!(host.records().len(), 1);
    let refused = host.namespace.connect("127.0.0.1".parse().unwrap(), 8080);
    assert!(refused.is_err(), "the host port is free");

    fs::remove_file(host.path("agent")).unwrap();
    let away = cni.del(&two.network);
    assert_eq!(away.is_ok(), provider.queues_deletions, "{away:?}");
    let gone = two.network.clone();
    drop((one, two));
    fs::write(host.path("agent"), "").unwrap();
    cni.del_again(&gone.id, &gone.ifname).unwrap();
    assert!(host.records().is_empty());
    let calls = fs::read_to_string(host.path("calls")).unwrap();
    let known = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-bbbbbbbb;\
        K8S_POD_INFRA_CONTAINER_ID=bbbbbbbb;K8S_POD_UID=uid-bbbbbbbb";
    for verb in ["ADD", "DEL"] {
        assert!(
            calls.contains(&format!("{verb} bbbbbbbb eth0 {known}")),
            "{calls}"
        );
    }
}

#[test]
fn weave_net() {
    agent_network(&WEAVE);
}

#[test]
fn cilium() {
    agent_network(&CILIUM);
}

#[test]
fn calico() {
    agent_network(&CALICO);
}

#[test]
fn openshift_sdn() {
    agent_network(&OPENSHIFT_SDN);
}

#[test]
fn ovn_kubernetes() {
    agent_network(&OVN_KUBERNETES);
}

const FLANNEL_LIST: &str = r#"[{"type":"flannel","subnetFile":"SUBNET","dataDir":"DATA",
    "delegate":{"hairpinMode":true,"isDefaultGateway":true}},
    {"type":"portmap","capabilities":{"portMappings":true}}]"#;

fn flannel_host(host: &Host) {
    let lease = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\n\
        FLANNEL_IPV6_NETWORK=fd44::/56\nFLANNEL_IPV6_SUBNET=fd44:0:0:7::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    fs::write(host.path("subnet.env"), lease).unwrap();
    let plugins = FLANNEL_LIST
        .replace("SUBNET", host.path("subnet.env").to_str().unwrap())
        .replace("DATA", host.path("flannel").to_str().unwrap())
        .replace(
            r#""delegate""#,
            &format!(r#""ipam":{{"dataDir":{:?}}},"delegate""#, host.path("ipam")),
        );
    host.configure("10-flannel.conflist", "1.0.0", "cbr0", &plugins);
}

/// Flannel's own plugin: built from its source, or installed with the node's plugins.
fn real_flannel() -> Option<Vec<PathBuf>> {
    let given = std::env::var_os("CRIOXIDE_TEST_CNI_DIR").map(PathBuf::from);
    let dirs = given.into_iter().chain(reference_dir());
    let all: Vec<_> = dirs.chain([PathBuf::from("/opt/cni/bin")]).collect();
    all.iter()
        .any(|dir| dir.join("flannel").exists())
        .then_some(all)
}

fn flannel_network(name: &str, host: &Host, cni: &Cni) {
    let lost = host.path("subnet.env");
    let text = fs::read_to_string(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let (one, two) = (Pod::new("aa"), Pod::new("bb"));
    let error = cni.add(&one.network).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("subnet.env"), "{name}: {cause}");
    assert!(host.records().is_empty(), "{name}");
    fs::write(&lost, text).unwrap();

    let added = cni
        .add(&one.network)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    cni.add(&two.network).unwrap();
    let routes = added.result["routes"].to_string();
    assert!(
        routes.contains("10.244.0.0/16") && routes.contains("fd44::/56"),
        "{name}: {routes}"
    );
    assert_eq!(
        shape(&added.result)["ips"],
        json!([
            {"address": "10.244.7.2/24", "gateway": "10.244.7.1", "interface": 2},
            {"address": "fd44:0:0:7::2/64", "gateway": "fd44:0:0:7::1", "interface": 2},
        ]),
        "{name}"
    );
    assert_eq!(one.namespace.link("eth0").unwrap().mtu, 1450, "{name}");
    assert!(exists(&host.path("flannel").join("aa")), "{name}");
    let server = one.namespace.listen("0.0.0.0:80");
    talk(&server, &two.namespace, added.ips[0], 80)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    // The lease may be gone by the time a pod goes.
    fs::remove_file(&lost).unwrap();
    cni.del(&one.network)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    cni.del(&one.network).unwrap();
    cni.del(&two.network).unwrap();
    assert!(host.reserved("cbr0").is_empty(), "{name}");
    assert_eq!(
        fs::read_dir(host.path("flannel")).unwrap().count(),
        0,
        "{name}"
    );
}

#[test]
fn flannel() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    flannel_host(&host);
    host.namespace
        .run(|| flannel_network("built-in", &host, &host.cni()));
    let Some(plugin_dirs) = real_flannel() else {
        eprintln!("skipped for flannel's own plugin: it is not installed");
        return;
    };
    let host = Host::new();
    flannel_host(&host);
    let cni = Cni::new(CniSettings {
        plugin_dirs,
        ..host.settings()
    });
    host.namespace.run(|| {
        flannel_network("flannel's own", &host, &cni);
        // What the one made the other removes.
        flannel_host(&host);
        let (one, two) = (Pod::new("cc"), Pod::new("dd"));
        cni.add(&one.network).unwrap();
        host.cni().add(&two.network).unwrap();
        host.swap_makers();
        host.cni().del(&one.network).unwrap();
        cni.del(&two.network).unwrap();
        assert!(host.reserved("cbr0").is_empty());
    });
}

#[test]
fn multus() {
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("skipped: needs jq");
        return;
    }
    for_each(&["bridge", "macvlan"], |name, host, _| {
        // Its delegates are programs.
        let Some(reference) = reference_dir().filter(|_| name == "reference") else {
            return;
        };
        host.plugin("multus", include_str!("providers/multus.sh"));
        host.stub("up0");
        let bridge: serde_json::Value =
            serde_json::from_str(&host.bridge("br0", r#"[[{"subnet":"10.71.0.0/24"}]]"#, ""))
                .unwrap();
        let mut default = bridge;
        default["name"] = json!("default");
        let second = json!({"type": "macvlan", "name": "second", "master": "up0", "ipam": host.ipam(&["10.72.0.0/24"], &[])});
        let plugin = json!({
            "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus",
            "capabilities": {"portMappings": true}, "delegates": [default, second],
        });
        fs::write(host.path("net.d/00-multus.conf"), plugin.to_string()).unwrap();
        let cni = Cni::new(CniSettings {
            plugin_dirs: vec![host.path("plugins"), reference],
            ..host.settings()
        });
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni.add(&one.network).unwrap();
        cni.add(&two.network).unwrap();
        assert_eq!(
            added.ips[0].to_string(),
            "10.71.0.2",
            "the first delegate's"
        );
        assert_eq!(one.namespace.addresses("net1"), ["10.72.0.2/24"]);
        let server = one.namespace.listen("0.0.0.0:80");
        for address in ["10.71.0.2", "10.72.0.2"] {
            talk(&server, &two.namespace, address.parse().unwrap(), 80).unwrap();
        }
        cni.del(&one.network).unwrap();
        let gone = two.network.clone();
        drop(two);
        cni.del(&gone).unwrap();
        assert!(host.reserved("default").is_empty() && host.reserved("second").is_empty());
        assert_eq!(fs::read_dir(host.path("multus")).unwrap().count(), 0);
    });
}
