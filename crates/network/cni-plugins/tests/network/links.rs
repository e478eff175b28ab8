//! The contract of plugins that give a pod one link: macvlan, ipvlan, vlan, dummy, host-device.

use serde_json::{Value, json};

use crate::contract::{for_each, shape};
use crate::fixture::{Host, Pod, eventually, talk};

/// What each of them does: the result, the link, DEL with and without the namespace.
fn one_link(kind: &str, config: &Value, test: impl Fn(&str, &Host, &Pod) + Sync) {
    for_each(&[kind], |name, host, cni| {
        host.stub("up0");
        if !host.has_kind(kind) {
            return;
        }
        let mut config = config.clone();
        config["type"] = json!(kind);
        config["ipam"] = host.ipam(&["10.31.0.0/24", "fd31::/64"], &["0.0.0.0/0"]);
        host.configure("10.conflist", "1.0.0", "net", &json!([config]).to_string());
        cni.status().unwrap();
        let pod = Pod::new("aa");
        let added = cni
            .add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(
            shape(&added.result),
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [{"name": "eth0", "mac": "some", "sandbox": "some"}],
                "ips": [
                    {"address": "10.31.0.2/24", "gateway": "10.31.0.1", "interface": 0},
                    {"address": "fd31::2/64", "gateway": "fd31::1", "interface": 0},
                ],
                "routes": [{"dst": "0.0.0.0/0"}],
            }),
            "{name}"
        );
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!((link.up, link.kind.as_str()), (true, kind), "{name}");
        assert_eq!(
            pod.namespace.addresses("eth0"),
            ["10.31.0.2/24", "fd31::2/64"],
            "{name}"
        );
        cni.check(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        test(name, host, &pod);
        cni.del(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        cni.del(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: DEL again: {error:?}"));
        assert!(
            host.reserved("net").is_empty() && host.records().is_empty(),
            "{name}"
        );

        let gone = Pod::new("bb");
        cni.add(&gone.network).unwrap();
        let network = gone.network.clone();
        drop(gone);
        cni.del(&network).unwrap();
        assert!(host.reserved("net").is_empty(), "{name}");
    });
}

#[test]
fn macvlan() {
    let config = json!({"master": "up0", "mode": "bridge", "mtu": 1400});
    one_link("macvlan", &config, |name, host, pod| {
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!(link.mtu, 1400, "{name}");
        assert_eq!(link.parent, Some(host.namespace.link("up0").unwrap().index));
    });
    // Pods of one master reach each other.
    for_each(&["macvlan"], |name, host, cni| {
        host.stub("up0");
        let ipam = host.ipam(&["10.32.0.0/24"], &[]);
        let plugins = json!([{"type": "macvlan", "master": "up0", "ipam": ipam}]);
        host.configure("10.conflist", "1.0.0", "net", &plugins.to_string());
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni.add(&one.network).unwrap();
        cni.add(&two.network).unwrap();
        let server = one.namespace.listen("0.0.0.0:80");
        talk(&server, &two.namespace, added.ips[0], 80)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    });
}

#[test]
fn ipvlan() {
    let config = json!({"master": "up0", "mode": "l2"});
    one_link("ipvlan", &config, |name, host, pod| {
        let parent = host.namespace.link("up0").unwrap();
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!(
            link.mac, parent.mac,
            "{name}: it shares the master's address"
        );
    });
}

#[test]
fn vlan() {
    let config = json!({"master": "up0", "vlanId": 100});
    one_link("vlan", &config, |name, _, pod| {
        let link = pod.namespace.link("eth0").unwrap();
        assert_eq!(link.vlan_id, Some(100), "{name}");
    });
}

#[test]
fn dummy() {
    one_link("dummy", &json!({}), |_, _, _| {});
}

#[test]
fn a_host_device_is_lent_and_comes_back() {
    for_each(&["host-device"], |name, host, cni| {
        let device = host.stub("dev0");
        let ipam = host.ipam(&["10.33.0.0/24"], &[]);
        let plugins = json!([{"type": "host-device", "device": "dev0", "ipam": ipam}]);
        host.configure("10.conflist", "1.0.0", "net", &plugins.to_string());
        let (pod, other) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni
            .add(&pod.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(added.ips[0].to_string(), "10.33.0.2", "{name}");
        let lent = pod.namespace.link("eth0").unwrap();
        assert_eq!((lent.mac, lent.up), (device.mac, true), "{name}");
        assert!(host.namespace.link("dev0").is_none(), "{name}");
        cni.check(&pod.network).unwrap();
        // The reference plugin's DEL of what was never there fails, and so does undoing its ADD.
        if name != "reference" {
            cni.add(&other.network).unwrap_err();
        }
        assert_eq!(host.reserved("net"), ["10.33.0.2"], "{name}");
        cni.del(&pod.network).unwrap();
        let back = host.namespace.link("dev0").unwrap();
        assert_eq!(back.mac, device.mac, "{name}");
        assert!(host.reserved("net").is_empty(), "{name}");
        cni.add(&other.network).unwrap();
        cni.del(&other.network).unwrap();
        assert!(host.namespace.link("dev0").is_some(), "{name}");
    });
}

/// Each gives back what the other took: link, address and record.
#[test]
fn links_made_by_the_other() {
    let cases = [
        ("macvlan", json!({"master": "up0"})),
        ("ipvlan", json!({"master": "up0"})),
        ("vlan", json!({"master": "up0", "vlanId": 7})),
        ("host-device", json!({"device": "up0"})),
        ("ptp", json!({})),
    ];
    for (kind, config) in &cases {
        for_each(&[kind], |name, host, cni| {
            host.stub("up0");
            if !matches!(*kind, "host-device" | "ptp") && !host.has_kind(kind) {
                return;
            }
            let mut config = config.clone();
            config["type"] = json!(kind);
            config["ipam"] = host.ipam(&["10.34.0.0/24"], &[]);
            host.configure("10.conflist", "1.0.0", "net", &json!([config]).to_string());
            let Some(reference) = crate::contract::all_of(host)
                .into_iter()
                .find(|one| one.name == "reference")
            else {
                return;
            };
            let pod = Pod::new("aa");
            cni.add(&pod.network)
                .unwrap_or_else(|error| panic!("{kind} {name}: {error:?}"));
            host.swap_makers();
            reference
                .cni
                .check(&pod.network)
                .unwrap_or_else(|error| panic!("{kind} of {name}, CHECK: {error:?}"));
            reference
                .cni
                .del(&pod.network)
                .unwrap_or_else(|error| panic!("{kind} of {name}, DEL: {error:?}"));
            assert!(host.reserved("net").is_empty(), "{kind} {name}");
            if *kind == "host-device" {
                assert!(host.namespace.link("up0").is_some(), "{kind} {name}");
            }
            drop(pod);
            eventually("no veth is left", || host.veths().is_empty());
        });
    }
}

#[test]
fn wrong_keys_are_refused_without_a_trace() {
    let cases = [
        ("macvlan", json!({"master": "absent"})),
        ("macvlan", json!({"master": "up0", "mode": "strange"})),
        ("macvlan", json!({"master": "up0", "mtu": 9000})),
        ("ipvlan", json!({"master": "up0", "mode": "l4"})),
        ("vlan", json!({"master": "up0", "vlanId": 5000})),
        ("host-device", json!({"device": "absent"})),
        ("host-device", json!({})),
    ];
    for (kind, config) in &cases {
        for_each(&[kind], |name, host, cni| {
            host.stub("up0");
            let mut config = config.clone();
            config["type"] = json!(kind);
            config["ipam"] = host.ipam(&["10.35.0.0/24"], &[]);
            host.configure("10.conflist", "1.0.0", "net", &json!([config]).to_string());
            let pod = Pod::new("aa");
            assert!(cni.add(&pod.network).is_err(), "{name} {config}");
            assert!(pod.namespace.link("eth0").is_none(), "{name} {config}");
            assert!(host.reserved("net").is_empty(), "{name} {config}");
            assert!(host.namespace.link("up0").is_some(), "{name} {config}");
        });
    }
}
