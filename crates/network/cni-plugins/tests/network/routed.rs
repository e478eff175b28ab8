//! The contract of ptp: pods on routed links of their own.

use serde_json::json;

use crate::contract::{for_each, shape};
use crate::fixture::{Pod, eventually, talk};

#[test]
fn routed_pods_reach_each_other_and_the_host() {
    for_each(&["ptp"], |name, host, cni| {
        let ipam = host.ipam(&["10.41.0.0/24", "fd41::/64"], &["0.0.0.0/0", "::/0"]);
        let plugins = json!([{"type": "ptp", "mtu": 1400, "ipam": ipam, "dns": {"nameservers": ["10.41.0.1"]}}]);
        host.configure("10.conflist", "1.0.0", "net", &plugins.to_string());
        let (one, two) = (Pod::new("aa"), Pod::new("bb"));
        let added = cni
            .add(&one.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        cni.add(&two.network).unwrap();
        assert_eq!(
            shape(&added.result),
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    {"name": "vet", "mac": "some"},
                    {"name": "eth0", "mac": "some", "sandbox": "some"},
                ],
                "ips": [
                    {"address": "10.41.0.2/24", "gateway": "10.41.0.1", "interface": 1},
                    {"address": "fd41::2/64", "gateway": "fd41::1", "interface": 1},
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                "dns": {"nameservers": ["10.41.0.1"]},
            }),
            "{name}"
        );
        assert_eq!(one.namespace.link("eth0").unwrap().mtu, 1400, "{name}");
        cni.check(&one.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let server = one.namespace.listen("[::]:80");
        for family in 0..2 {
            // The reference plugin leaves IPv6 addresses to duplicate detection for a while.
            eventually(
                &format!("{name}: pods and host talk, family {family}"),
                || {
                    talk(&server, &two.namespace, added.ips[family], 80).is_ok()
                        && talk(&server, &host.namespace, added.ips[family], 80).is_ok()
                },
            );
        }
        drop(server);
        cni.del(&one.network).unwrap();
        cni.del(&one.network).unwrap();
        assert_eq!(host.reserved("net").len(), 2, "{name}");
        // The address is free for another pod, though the first one's namespace is still there.
        let next = Pod::new("cc");
        let ipam = host.ipam(&["10.41.0.0/24"], &["0.0.0.0/0"]);
        let mut asking = json!({"type": "ptp", "ipam": ipam});
        asking["args"] = json!({"cni": {"ips": ["10.41.0.2"]}});
        host.configure("10.conflist", "1.0.0", "net", &json!([asking]).to_string());
        let again = cni.add(&next.network).unwrap();
        assert_eq!(again.ips[0].to_string(), "10.41.0.2", "{name}");
        let server = next.namespace.listen("0.0.0.0:80");
        talk(&server, &host.namespace, again.ips[0], 80)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        drop(server);
        cni.del(&next.network).unwrap();
        cni.del(&two.network).unwrap();
        assert!(host.reserved("net").is_empty(), "{name}");
        drop((one, two, next));
        eventually("the links died with their namespaces", || {
            host.veths().is_empty()
        });
    });
}

#[test]
fn routed_pods_are_masqueraded() {
    if !crate::fixture::is_root() {
        return;
    }
    let host = crate::fixture::Host::new();
    let cni = host.cni();
    let ipam = host.ipam(&["10.42.0.0/24"], &["0.0.0.0/0"]);
    let plugins = json!([{"type": "ptp", "ipMasq": true, "ipam": ipam}]);
    host.configure("10.conflist", "1.0.0", "net", &plugins.to_string());
    host.namespace.run(|| {
        let pod = Pod::new("aa");
        cni.add(&pod.network).unwrap();
        assert!(host.ruleset().contains("net/aa/eth0"), "{}", host.ruleset());
        cni.check(&pod.network).unwrap();
        cni.del(&pod.network).unwrap();
        assert!(!host.ruleset().contains("aa/eth0"), "{}", host.ruleset());
    });
}
