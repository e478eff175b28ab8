//! The contract of plugins that change what an earlier one of the list made: tuning, sbr, vrf,
//! bandwidth, firewall.

use std::process::Command;

use crioxide_cni::Bandwidth;
use crioxide_netlink::RouteSocket;
use serde_json::{Value, json};

use crate::contract::{for_each, shape};
use crate::fixture::{Host, Pod, eventually, exists, talk};

fn ptp(host: &Host, subnet: &str) -> Value {
    json!({"type": "ptp", "ipam": host.ipam(&[subnet], &["0.0.0.0/0"])})
}

fn configure(host: &Host, plugins: &[Value]) {
    host.configure("10.conflist", "1.0.0", "net", &json!(plugins).to_string());
}

#[test]
fn tuning_changes_and_puts_back() {
    for_each(&["host-device", "tuning"], |name, host, cni| {
        let device = host.stub("dev0");
        // The reference plugin's CHECK looks for a file of this name.
        let interface = if name == "reference" {
            "eth0"
        } else {
            "IFNAME"
        };
        let key = format!("net.ipv4.conf.{interface}.arp_filter");
        let tuning = json!({
            "type": "tuning", "mac": "02:11:22:33:44:55", "mtu": 1380, "promisc": true, "allmulti": true,
            "sysctl": {key: "1"}, "dataDir": host.path("tuning"),
        });
        let ipam = host.ipam(&["10.51.0.0/24"], &[]);
        let device_plugin = json!({"type": "host-device", "device": "dev0", "ipam": ipam});
        configure(host, &[device_plugin, tuning]);
        let pod = Pod::new("aa");
        let added = cni
            .add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(
            added.result["interfaces"][0]["mac"], "02:11:22:33:44:55",
            "{name}"
        );
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!(link.mac.unwrap().to_string(), "02:11:22:33:44:55", "{name}");
        assert_eq!(
            (link.mtu, link.promiscuous, link.all_multicast),
            (1380, true, true),
            "{name}"
        );
        let setting = pod
            .namespace
            .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/arp_filter").unwrap());
        assert_eq!(setting.trim(), "1", "{name}");
        let record = host.path("tuning").join("aa_eth0.json");
        assert!(exists(&record), "{name}");
        cni.check(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        cni.del(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let back = host.namespace.link("dev0").unwrap();
        assert_eq!((back.mac, back.mtu), (device.mac, device.mtu), "{name}");
        assert!(!back.promiscuous && !back.all_multicast, "{name}");
        assert!(!exists(&record), "{name}");
    });
}

#[test]
fn tuning_touches_the_network_only() {
    for_each(&["ptp", "tuning"], |name, host, cni| {
        for key in ["kernel.core_pattern", "net/../kernel/core_pattern"] {
            let tuning = json!({"type": "tuning", "sysctl": {key: "|/bin/false"}});
            configure(host, &[ptp(host, "10.52.0.0/24"), tuning]);
            let pod = Pod::new("aa");
            assert!(cni.add(&pod.network).is_err(), "{name}: {key}");
            assert!(host.reserved("net").is_empty(), "{name}");
        }
    });
}

#[test]
fn packets_leave_by_the_interface_of_their_source() {
    for_each(&["ptp", "sbr"], |name, host, cni| {
        configure(host, &[ptp(host, "10.53.0.0/24"), json!({"type": "sbr"})]);
        let pod = Pod::new("aa");
        let added = cni
            .add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut socket = RouteSocket::open_in(&pod.namespace.netns).unwrap();
        let rules = socket.source_rules().unwrap();
        assert_eq!(rules.len(), 1, "{name}: {rules:?}");
        assert_eq!(rules[0].source.to_string(), "10.53.0.2/32", "{name}");
        let index = pod.namespace.link("eth0").unwrap().index;
        let routes = socket.routes(index).unwrap();
        let in_table = |table| {
            let routes = routes.iter().filter(move |route| route.table == table);
            routes
                .filter(|route| route.is_unicast && route.is_ipv4)
                .count()
        };
        assert!(in_table(rules[0].table) >= 2, "{name}: {routes:?}");
        assert_eq!(in_table(254), 0, "{name}: {routes:?}");
        let server = pod.namespace.listen("10.53.0.2:80");
        talk(&server, &host.namespace, added.ips[0], 80)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if name != "reference" {
            cni.check(&pod.network).unwrap();
        }
        cni.del(&pod.network).unwrap();
        assert!(host.reserved("net").is_empty(), "{name}");
    });
}

#[test]
fn a_routing_domain_in_the_pod() {
    for_each(&["ptp", "vrf"], |name, host, cni| {
        let vrf = json!({"type": "vrf", "vrfname": "blue", "table": 4242});
        configure(host, &[ptp(host, "10.54.0.0/24"), vrf]);
        if !host.has_kind("vrf") {
            return;
        }
        let pod = Pod::new("aa");
        cni.add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let blue = pod.namespace.link("blue").unwrap();
        assert_eq!((blue.vrf_table, blue.up), (Some(4242), true), "{name}");
        assert_eq!(
            pod.namespace.link("eth0").unwrap().master,
            Some(blue.index),
            "{name}"
        );
        assert_eq!(pod.namespace.addresses("eth0"), ["10.54.0.2/24"], "{name}");
        cni.check(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        cni.del(&pod.network).unwrap();
        assert!(host.reserved("net").is_empty(), "{name}");
    });
}

#[test]
fn bandwidth_is_limited_both_ways() {
    for_each(&["ptp", "bandwidth"], |name, host, cni| {
        let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
        configure(host, &[ptp(host, "10.55.0.0/24"), bandwidth]);
        let mut pod = Pod::new("aa");
        pod.network.bandwidth = Some(Bandwidth {
            ingress_rate: 8_000_000,
            ingress_burst: 8_000_000,
            egress_rate: 16_000_000,
            egress_burst: 8_000_000,
        });
        let added = cni
            .add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let shaped = shape(&added.result);
        assert_eq!(
            shaped["interfaces"][2],
            json!({"name": "bwp", "mac": "some"}),
            "{name}"
        );
        let rate_of = |link: &str| {
            let mut socket = RouteSocket::open_in(&host.namespace.netns).unwrap();
            let index = host.namespace.link(link).unwrap().index;
            let queues = socket.queues(index).unwrap();
            queues.iter().find_map(|queue| queue.bytes_per_second)
        };
        let names = added.result["interfaces"].as_array().unwrap();
        let named = |at: usize| names[at]["name"].as_str().unwrap().to_owned();
        assert_eq!(rate_of(&named(0)), Some(1_000_000), "{name}");
        assert_eq!(rate_of(&named(2)), Some(2_000_000), "{name}");
        // Both ends still talk.
        let server = pod.namespace.listen("0.0.0.0:80");
        talk(&server, &host.namespace, added.ips[0], 80)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        cni.check(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        cni.del(&pod.network).unwrap();
        assert!(
            host.namespace.link(&named(2)).is_none(),
            "{name}: the queue is gone"
        );
        cni.del(&pod.network).unwrap();

        // Without limits it does nothing.
        let free = Pod::new("bb");
        let added = cni.add(&free.network).unwrap();
        assert_eq!(
            added.result["interfaces"].as_array().unwrap().len(),
            2,
            "{name}"
        );
        cni.del(&free.network).unwrap();
    });
}

#[test]
fn a_firewall_lets_pods_through() {
    if Command::new("iptables").arg("--version").output().is_err() {
        eprintln!("skipped: needs iptables");
        return;
    }
    for_each(&["ptp", "firewall"], |name, host, cni| {
        let iptables = |arguments: &[&str]| {
            let output = Command::new("iptables").args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let server_of = |pod: &Pod| pod.namespace.listen("0.0.0.0:80");
        iptables(&["-P", "FORWARD", "DROP"]);
        configure(host, &[ptp(host, "10.56.0.0/24")]);
        let (shut, client) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni.add(&shut.network).unwrap();
        cni.add(&client.network).unwrap();
        let server = server_of(&shut);
        let refused = client.namespace.run(|| {
            let target = std::net::SocketAddr::new(added.ips[0], 80);
            std::net::TcpStream::connect_timeout(&target, std::time::Duration::from_millis(300))
        });
        assert!(refused.is_err(), "{name}: the policy drops");
        drop(server);

        let firewall = json!({"type": "firewall", "backend": "iptables"});
        configure(host, &[ptp(host, "10.56.0.0/24"), firewall]);
        let (open, other) = (Pod::new("cc"), Pod::new("dd"));
        let added = cni
            .add(&open.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        cni.add(&other.network).unwrap();
        let server = server_of(&open);
        talk(&server, &other.namespace, added.ips[0], 80)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        cni.check(&open.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let rules = iptables(&["-S", "CNI-FORWARD"]);
        let address = added.ips[0].to_string();
        assert!(rules.contains(&address), "{name}: {rules}");
        cni.del(&open.network).unwrap();
        let rules = iptables(&["-S", "CNI-FORWARD"]);
        assert!(!rules.contains(&address), "{name}: {rules}");
        cni.del(&open.network).unwrap();
        cni.del(&other.network).unwrap();
    });
}

/// Rules, queues and records of either are found by the other.
#[test]
fn changes_made_by_the_other() {
    let plugins = ["ptp", "tuning", "bandwidth", "firewall", "sbr"];
    for_each(&plugins, |name, host, cni| {
        let Some(reference) = crate::contract::all_of(host)
            .into_iter()
            .find(|one| one.name == "reference")
        else {
            return;
        };
        configure(
            host,
            &[
                ptp(host, "10.57.0.0/24"),
                json!({"type": "tuning", "mtu": 1300, "dataDir": host.path("tuning")}),
                json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
                json!({"type": "firewall", "backend": "iptables"}),
            ],
        );
        let mut pod = Pod::new("aa");
        pod.network.bandwidth = Some(Bandwidth {
            egress_rate: 8_000_000,
            egress_burst: 8_000_000,
            ..Bandwidth::default()
        });
        cni.add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        host.swap_makers();
        reference
            .cni
            .check(&pod.network)
            .unwrap_or_else(|error| panic!("made by {name}, CHECK by the other: {error:?}"));
        reference
            .cni
            .del(&pod.network)
            .unwrap_or_else(|error| panic!("made by {name}, DEL by the other: {error:?}"));
        assert!(host.reserved("net").is_empty(), "{name}");
        assert!(
            host.namespace.links().iter().all(|link| link.kind != "ifb"),
            "{name}"
        );
        let left = std::fs::read_dir(host.path("tuning")).unwrap().count();
        assert_eq!(left, 0, "{name}");
        drop(pod);
        eventually("no link is left", || host.veths().is_empty());
    });
}

#[test]
fn source_routes_by_another_gateway_and_with_hints() {
    for_each(&["bridge", "sbr"], |name, host, cni| {
        if name == "reference" {
            return;
        }
        let bridge = json!({
            "type": "bridge", "bridge": "br0", "isGateway": true,
            "ipam": host.ipam(&["10.58.0.0/24", "fd58::/64"], &["0.0.0.0/0", "::/0"]),
        });
        let sbr =
            json!({"type": "sbr", "gateways": ["10.58.0.9", "fd58::9"], "addSourceHints": true});
        configure(host, &[bridge.clone(), sbr]);
        let pod = Pod::new("aa");
        cni.add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut socket = RouteSocket::open_in(&pod.namespace.netns).unwrap();
        let index = socket.link_by_name("eth0").unwrap().unwrap().index;
        let routes = socket.routes(index).unwrap();
        for (gateway, source) in [("10.58.0.9", "10.58.0.2"), ("fd58::9", "fd58::2")] {
            let (gateway, source) = (
                Some(gateway.parse().unwrap()),
                Some(source.parse().unwrap()),
            );
            let by_gateway: Vec<_> = routes
                .iter()
                .filter(|route| route.gateway == gateway)
                .collect();
            assert!(
                by_gateway.len() == 1
                    && by_gateway[0].table != 254
                    && by_gateway[0].prefix_len == 0,
                "{name}: {routes:?}"
            );
            let hints = routes
                .iter()
                .filter(|route| route.table == 254 && route.is_unicast && route.source == source);
            assert_eq!(hints.count(), 1, "{name}: {routes:?}");
        }
        let in_main = routes.iter().filter(|route| route.table == 254);
        assert!(
            in_main.clone().all(|route| route.gateway.is_none()),
            "{routes:?}"
        );
        cni.check(&pod.network).unwrap();
        cni.del(&pod.network).unwrap();

        let twice = json!({"type": "sbr", "gateways": ["10.58.0.9", "10.58.0.8"]});
        configure(host, &[bridge, twice]);
        assert!(cni.add(&Pod::new("bb").network).is_err());
    });
}

#[test]
fn tuning_obeys_arguments_first() {
    for_each(&["ptp", "tuning"], |name, host, cni| {
        if name == "reference" {
            return;
        }
        let tuning = json!({
            "type": "tuning", "mtu": 1400, "promisc": true, "dataDir": host.path("tuning"),
            "mac": "02:00:00:00:00:01",
            "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "0"},
            "args": {"cni": {
                "mtu": 1300, "promisc": false, "txQLen": 77, "allmulti": true,
                "mac": "02:00:00:00:00:02",
                "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"},
            }},
        });
        configure(host, &[ptp(host, "10.59.0.0/24"), tuning]);
        let pod = Pod::new("aa");
        cni.add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!((link.mtu, link.tx_queue_len), (1300, 77), "{name}");
        assert!(!link.promiscuous && link.all_multicast, "{name}: {link:?}");
        assert_eq!(link.mac.unwrap().to_string(), "02:00:00:00:00:02", "{name}");
        let filter = pod
            .namespace
            .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/arp_filter"));
        assert_eq!(filter.unwrap().trim(), "1", "{name}");
        cni.check(&pod.network).unwrap();
        cni.del(&pod.network).unwrap();
    });
}
