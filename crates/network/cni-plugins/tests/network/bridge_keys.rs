//! Keys of the bridge plugin that change how a pod is connected.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crioxide_cni::{Cni, CniError};
use crioxide_netlink::{LinkRequests, MacAddress, RouteSocket};
use serde_json::{Value, json};

use crate::contract::all_of;
use crate::fixture::{Host, Namespace, Pod, eventually, is_root, talk};

fn configure(host: &Host, subnet: &str, keys: Value) {
    let mut plugin = json!({
        "type": "bridge",
        "bridge": "br0",
        "isDefaultGateway": true,
        "ipam": host.ipam(&[subnet], &[]),
    });
    for (key, value) in keys.as_object().unwrap() {
        plugin[key] = value.clone();
    }
    host.configure("10.conflist", "1.0.0", "net", &format!("[{plugin}]"));
}

/// By ours, and by the reference plugins if Debian's know the key.
fn for_each(also_reference: bool, test: impl Fn(&str, &Host, &Cni) + Sync) {
    if !is_root() {
        return;
    }
    let names: Vec<_> = all_of(&Host::new()).iter().map(|one| one.name).collect();
    for name in names {
        if name == "reference" && !also_reference {
            continue;
        }
        let host = Host::new();
        let one = all_of(&host).into_iter().find(|one| one.name == name);
        host.namespace.run(|| test(name, &host, &one.unwrap().cni));
    }
}

/// An error with what caused it.
fn text(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(text).unwrap_or_default();
    format!("{error}: {cause}")
}

fn is_reachable(from: &Namespace, ip: IpAddr) -> bool {
    from.run(|| {
        TcpStream::connect_timeout(&SocketAddr::new(ip, 80), Duration::from_millis(300)).is_ok()
    })
}

#[test]
fn a_hardware_address_is_given() {
    for_each(true, |name, host, cni| {
        let mac = "02:11:22:33:44:55";
        configure(host, "10.61.0.0/24", json!({"args": {"cni": {"mac": mac}}}));
        let pod = Pod::new("aa");
        let added = cni.add(&pod.network).unwrap();
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!(link.mac.unwrap().to_string(), mac, "{name}");
        assert_eq!(added.result["interfaces"][2]["mac"], mac, "{name}");
        cni.check(&pod.network).unwrap();
        cni.del(&pod.network).unwrap();
    });
}

#[test]
fn name_servers_of_the_configuration_go_first() {
    for_each(true, |name, host, cni| {
        let dns = json!({"nameservers": ["192.0.2.53"]});
        configure(host, "10.62.0.0/24", json!({"dns": dns}));
        let pod = Pod::new("aa");
        let added = cni.add(&pod.network).unwrap();
        assert_eq!(added.result["dns"], dns, "{name}");
        cni.del(&pod.network).unwrap();
    });
}

#[test]
fn isolated_pods_reach_the_host_only() {
    for_each(false, |name, host, cni| {
        configure(host, "10.63.0.0/24", json!({"portIsolation": true}));
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni.add(&one.network).unwrap();
        cni.add(&two.network).unwrap();
        cni.check(&one.network).unwrap();
        let server = one.namespace.listen("0.0.0.0:80");
        talk(&server, &host.namespace, added.ips[0], 80).unwrap();
        assert!(!is_reachable(&two.namespace, added.ips[0]), "{name}");
        cni.del(&one.network).unwrap();
        cni.del(&two.network).unwrap();
    });
}

#[test]
fn the_pods_interface_can_be_left_alone() {
    for_each(false, |name, host, cni| {
        let plugin = json!({"type": "bridge", "bridge": "br0", "disableContainerInterface": true});
        host.configure("10.conflist", "1.0.0", "net", &format!("[{plugin}]"));
        let pod = Pod::new("aa");
        cni.add(&pod.network).unwrap();
        let link = pod.namespace.link("eth0").unwrap();
        assert!(!link.up, "{name}");
        assert!(pod.namespace.addresses("eth0").is_empty(), "{name}");
        cni.check(&pod.network).unwrap();
        cni.del(&pod.network).unwrap();
        configure(
            host,
            "10.64.0.0/24",
            json!({"disableContainerInterface": true}),
        );
        let error = cni.add(&Pod::new("bb").network).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains("disableContainerInterface"),
            "{name}: {cause}"
        );
    });
}

#[test]
fn frames_with_a_false_address_are_dropped() {
    if Command::new("nft").arg("--version").output().is_err() {
        eprintln!("skipped: needs the nft program");
        return;
    }
    for_each(true, |name, host, cni| {
        configure(host, "10.65.0.0/24", json!({"macspoofchk": true}));
        let (server_pod, pod) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni.add(&server_pod.network).unwrap();
        cni.add(&pod.network).unwrap();
        cni.check(&pod.network).unwrap();
        let server = server_pod.namespace.listen("0.0.0.0:80");
        talk(&server, &pod.namespace, added.ips[0], 80).unwrap();
        // Also after somebody flushed the rules.
        if name == "built-in" {
            assert!(
                Command::new("nft")
                    .args(["flush", "ruleset"])
                    .status()
                    .unwrap()
                    .success()
            );
            assert!(cni.check(&pod.network).is_err());
            assert!(cni.restore().unwrap().is_empty());
            cni.check(&pod.network).unwrap();
        }
        let mut socket = RouteSocket::open_in(&pod.namespace.netns).unwrap();
        let link = socket.link_by_name("eth0").unwrap().unwrap();
        let mut requests = LinkRequests::default();
        requests.set_mac(link.index, MacAddress::generate().unwrap());
        requests.send(&mut socket).unwrap();
        assert!(!is_reachable(&pod.namespace, added.ips[0]), "{name}");
        cni.del(&pod.network).unwrap();
        let left = host.ruleset();
        assert!(!left.contains("bb-eth0"), "{name}: {left}");
        assert!(left.contains("cni-br-iface-aa-eth0-mac"), "{name}: {left}");
        cni.del(&server_pod.network).unwrap();
    });
}

#[test]
fn the_check_of_addresses_is_removed_by_the_other() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let both = all_of(&host);
    let Some(reference) = both.iter().find(|one| one.name == "reference") else {
        return;
    };
    configure(&host, "10.66.0.0/24", json!({"macspoofchk": true}));
    host.namespace.run(|| {
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        both[0].cni.add(&one.network).unwrap();
        reference.cni.add(&two.network).unwrap();
        host.swap_makers();
        both[0].cni.check(&two.network).unwrap();
        reference.cni.del(&one.network).unwrap();
        both[0].cni.del(&two.network).unwrap();
        let left = host.ruleset();
        assert!(!left.contains("cni-br-iface"), "{left}");
    });
}

#[test]
fn duplicate_addresses_are_detected() {
    for_each(false, |name, host, cni| {
        let ipam = json!({"type": "static", "addresses": [{"address": "fd67::2/64"}]});
        configure(host, "fd67::/64", json!({"enabledad": true, "ipam": ipam}));
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        cni.add(&one.network).unwrap();
        // Usable at once: nothing is left to wait for.
        one.namespace.listen("[fd67::2]:80");
        let error = cni.add(&two.network).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("fd67::2"), "{name}: {cause}");
        assert!(
            matches!(error, CniError::Add { undo: None, .. }),
            "{name}: {error:?}"
        );
        cni.del(&one.network).unwrap();
    });
}

/// Whether the kernel's bridges look at tags; says so when not.
fn has_vlans(host: &Host, cni: &Cni) -> bool {
    configure(host, "10.68.0.0/24", json!({"vlan": 7, "bridge": "probe0"}));
    match cni.add(&Pod::new("probe").network) {
        Err(error) => {
            let cause = text(&error);
            assert!(cause.contains("Not supported"), "{cause}");
            eprintln!("skipped: this kernel's bridges have no VLANs");
            false
        }
        Ok(_) => true,
    }
}

fn vlans(host: &Host, added: &Value) -> Vec<u16> {
    let port = added["interfaces"][1]["name"].as_str().unwrap();
    let mut socket = RouteSocket::open_in(&host.namespace.netns).unwrap();
    let index = socket.link_by_name(port).unwrap().unwrap().index;
    socket.vlans(index).unwrap()
}

#[test]
fn pods_of_different_vlans_are_apart() {
    for_each(true, |name, host, cni| {
        if !has_vlans(host, &host.cni()) {
            return;
        }
        configure(host, "10.69.0.0/24", json!({"vlan": 100}));
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        let first = cni.add(&one.network).unwrap();
        cni.add(&two.network).unwrap();
        // The reference plugin's bridge takes the address of its last port, and its CHECK finds another one.
        if name != "reference" {
            cni.check(&one.network).unwrap();
        }
        assert_eq!(vlans(host, &first.result), [100], "{name}");
        assert_eq!(first.result["interfaces"][3]["name"], "br0.100", "{name}");
        assert_eq!(
            host.namespace.addresses("br0.100"),
            ["10.69.0.1/24"],
            "{name}"
        );
        let server = one.namespace.listen("0.0.0.0:80");
        talk(&server, &two.namespace, first.ips[0], 80).unwrap();
        eventually("the host reaches the pod", || {
            is_reachable(&host.namespace, first.ips[0])
        });
        configure(
            host,
            "10.69.0.0/24",
            json!({"vlan": 200, "isDefaultGateway": false}),
        );
        let other = Pod::new("cc");
        cni.add(&other.network).unwrap();
        assert!(!is_reachable(&other.namespace, first.ips[0]), "{name}");
        for pod in [&one, &two, &other] {
            cni.del(&pod.network).unwrap();
        }
    });
}

#[test]
fn a_trunk_carries_several_vlans() {
    for_each(false, |name, host, cni| {
        if !has_vlans(host, cni) {
            return;
        }
        let trunk = json!([{"id": 30}, {"minID": 10, "maxID": 12}]);
        for (keys, expected) in [
            (json!({"vlanTrunk": trunk}), vec![1, 10, 11, 12, 30]),
            (
                json!({"vlanTrunk": trunk, "vlan": 5}),
                vec![5, 10, 11, 12, 30],
            ),
            (
                json!({"vlanTrunk": trunk, "vlan": 5, "preserveDefaultVlan": true}),
                vec![1, 5, 10, 11, 12, 30],
            ),
        ] {
            let mut keys = keys;
            keys["isDefaultGateway"] = json!(false);
            configure(host, "10.70.0.0/24", keys);
            let pod = Pod::new("aa");
            let added = cni.add(&pod.network).unwrap();
            assert_eq!(vlans(host, &added.result), expected, "{name}");
            cni.check(&pod.network).unwrap();
            cni.del(&pod.network).unwrap();
        }
    });
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    for_each(false, |name, host, cni| {
        for (keys, word) in [
            (json!({"vlan": 4095}), "vlan"),
            (json!({"vlan": -1}), "vlan"),
            (json!({"vlanTrunk": [{"minID": 3}]}), "vlanTrunk"),
            (
                json!({"vlan": 100, "bridge": "a-long-name-0"}),
                "interface name",
            ),
            (
                json!({"hairpinMode": true, "promiscMode": true}),
                "hairpinMode",
            ),
            (json!({"args": {"cni": {"mac": "zz"}}}), "mac"),
            (
                json!({"ipMasq": true, "ipMasqBackend": "ipfw"}),
                "ipMasqBackend",
            ),
        ] {
            configure(host, "10.71.0.0/24", keys);
            let cause = text(&cni.add(&Pod::new("aa").network).unwrap_err());
            assert!(cause.contains(word), "{name}: {cause}");
        }
        // Not even a record, whose DEL would be tried for ever.
        assert!(host.veths().is_empty() && host.reserved("net").is_empty());
        assert!(host.records().is_empty(), "{name}: {:?}", host.records());
    });
}
