//! Host ports and masquerading, seen from outside, from the host, from other pods and from the pod
//! itself.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use crioxide_cni::{Cni, CniSettings, HostPorts, PortMapping, Protocol};
use crioxide_cni_plugins::Builtin;

use crate::fixture::{Host, PATIENCE, Pod, is_root, talk};

pub(crate) fn mapping(host_port: u16, container_port: u16, host_ip: &str) -> PortMapping {
    PortMapping {
        host_port,
        container_port,
        protocol: Protocol::Tcp,
        host_ip: host_ip.to_owned(),
    }
}

/// A host with a pod network and, as the outside, a pod on a second bridge without masquerading.
pub(crate) fn host_with_outside() -> (Host, Pod, Cni) {
    host_with(|_| Builtin::default())
}

/// As [`host_with_outside`], once for each backend that this machine has.
fn for_each_backend(test: impl Fn(&str, &Host, &Pod, &Cni)) {
    let (host, outside, cni) = host_with_outside();
    test("nftables", &host, &outside, &cni);
    for variant in crate::iptables::variants() {
        let (host, outside, cni) = host_with(|host| variant.plugins(host));
        test(variant.name, &host, &outside, &cni);
    }
}

pub(crate) fn host_with(plugins: impl Fn(&Host) -> Builtin) -> (Host, Pod, Cni) {
    let host = Host::new();
    let ranges = r#"[[{"subnet":"10.21.0.0/24"}],[{"subnet":"fd21::/64"}]]"#;
    let bridge = host.bridge("pods0", ranges, r#","ipMasq":true,"hairpinMode":true"#);
    host.configure("10.conflist", "1.0.0", "pods", &format!("[{bridge}]"));
    let ranges = r#"[[{"subnet":"192.0.2.0/24"}],[{"subnet":"fd99::/64"}]]"#;
    host.configure(
        "20.conflist",
        "1.0.0",
        "outside",
        &format!("[{}]", host.bridge("out0", ranges, "")),
    );
    let outside = Pod::new("0utside");
    let settings = CniSettings {
        default_network: Some("outside".to_owned()),
        ..host.settings()
    };
    host.namespace
        .run(|| Cni::new(settings).add(&outside.network))
        .unwrap();
    let cni = Cni::new(CniSettings {
        builtin: Box::new(plugins(&host)),
        ..host.settings()
    });
    (host, outside, cni)
}

#[test]
fn a_host_port_is_reachable_from_everywhere() {
    if !is_root() {
        return;
    }
    for_each_backend(|name, host, outside, cni| {
        println!("{name}");
        host.namespace.run(|| {
            let (mut pod, other) = (Pod::new("aa"), Pod::new("bb"));
            pod.network.port_mappings = vec![mapping(8080, 80, ""), mapping(8081, 81, "192.0.2.1")];
            cni.add(&pod.network).unwrap();
            cni.add(&other.network).unwrap();
            cni.check(&pod.network).unwrap();
            let server = pod.namespace.listen("[::]:80");
            let host_addresses: Vec<IpAddr> = ["192.0.2.1", "fd99::1"]
                .map(|text| text.parse().unwrap())
                .to_vec();
            for address in host_addresses {
                let seen = talk(&server, &outside.namespace, address, 8080).unwrap();
                let expected = if address.is_ipv4() {
                    "192.0.2.2"
                } else {
                    "fd99::2"
                };
                assert_eq!(
                    seen.to_canonical().to_string(),
                    expected,
                    "the source outside is kept"
                );
                talk(&server, &host.namespace, address, 8080).unwrap();
                talk(&server, &other.namespace, address, 8080).unwrap();
                talk(&server, &pod.namespace, address, 8080).unwrap();
            }
            talk(&server, &host.namespace, "127.0.0.1".parse().unwrap(), 8080).unwrap();
            let second = pod.namespace.listen("0.0.0.0:81");
            talk(
                &second,
                &outside.namespace,
                "192.0.2.1".parse().unwrap(),
                8081,
            )
            .unwrap();
            let refused = outside
                .namespace
                .connect("10.21.0.1".parse().unwrap(), 8081);
            assert!(refused.is_err(), "mapped on another address only");

            cni.del(&pod.network).unwrap();
            let refused = outside
                .namespace
                .connect("192.0.2.1".parse().unwrap(), 8080);
            assert!(refused.is_err(), "no longer mapped");
        });
    });
}

/// A mapping on all addresses must leave alone what is only passing through the host.
#[test]
fn traffic_to_others_is_not_taken() {
    if !is_root() {
        return;
    }
    for_each_backend(|name, host, outside, cni| {
        println!("{name}");
        host.namespace.run(|| {
            let (mut mapped, client) = (Pod::new("aa"), Pod::new("bb"));
            mapped.network.port_mappings = vec![mapping(8080, 80, "")];
            cni.add(&mapped.network).unwrap();
            cni.add(&client.network).unwrap();
            let foreign = outside.namespace.listen("0.0.0.0:8080");
            let seen = talk(
                &foreign,
                &client.namespace,
                "192.0.2.2".parse().unwrap(),
                8080,
            )
            .unwrap();
            assert_eq!(seen.to_string(), "192.0.2.1", "and it is masqueraded");
        });
    });
}

#[test]
fn a_taken_port_is_refused_with_its_owner() {
    if !is_root() {
        return;
    }
    for_each_backend(|name, host, _outside, cni| {
        println!("{name}");
        host.namespace.run(|| {
            let (mut first, mut second) = (Pod::new("aa"), Pod::new("bb"));
            first.network.port_mappings = vec![mapping(8080, 80, "")];
            second.network.port_mappings = vec![mapping(8082, 80, ""), mapping(8080, 80, "")];
            cni.add(&first.network).unwrap();
            let error = cni.add(&second.network).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(
                cause.contains("tcp port 8080 of the host is taken by pods/aa"),
                "{cause}"
            );
            cni.check(&first.network).unwrap();
            assert!(!host.ruleset().contains("bb/eth0"), "{}", host.ruleset());
            assert!(!host.ruleset().contains("\"bb\""), "{}", host.ruleset());
            assert_eq!(host.reserved("pods"), ["10.21.0.2", "fd21::2"]);
            // A late DEL of the loser leaves the winner its port.
            cni.del(&second.network).unwrap();
            cni.check(&first.network).unwrap();
            cni.del(&first.network).unwrap();
            cni.add(&second.network).unwrap();
        });
    });
}

fn nft(arguments: &[&str]) {
    let done = std::process::Command::new("nft").args(arguments).status();
    assert!(done.unwrap().success(), "nft {arguments:?}");
}

#[test]
fn flushed_rules_come_back() {
    if !is_root() {
        return;
    }
    let (host, outside, cni) = host_with_outside();
    host.namespace.run(|| {
        let (mut first, mut second) = (Pod::new("aa"), Pod::new("bb"));
        first.network.port_mappings = vec![mapping(8080, 80, "")];
        second.network.port_mappings = vec![mapping(8081, 80, "")];
        cni.add(&first.network).unwrap();
        let flushed = std::process::Command::new("nft")
            .args(["flush", "ruleset"])
            .status();
        if !flushed.is_ok_and(|status| status.success()) {
            eprintln!("skipped: needs the nft program");
            return;
        }
        assert!(cni.check(&first.network).is_err());
        assert!(cni.restore().unwrap().is_empty());
        cni.check(&first.network).unwrap();
        let server = first.namespace.listen("[::]:80");
        for address in ["192.0.2.1", "fd99::1"] {
            talk(&server, &outside.namespace, address.parse().unwrap(), 8080).unwrap();
        }
        // Only the rules, not what they look in; another process, as after a restart.
        nft(&["flush", "table", "ip", "crioxide_hostports"]);
        host.cni().restore().unwrap();
        talk(
            &server,
            &outside.namespace,
            "192.0.2.1".parse().unwrap(),
            8080,
        )
        .unwrap();
        let before = host.ruleset();
        assert!(cni.restore().unwrap().is_empty());
        assert_eq!(
            host.ruleset(),
            before,
            "nothing is missing, nothing is done"
        );

        nft(&["flush", "ruleset"]);
        cni.add(&second.network).unwrap();
        let server = second.namespace.listen("0.0.0.0:80");
        talk(
            &server,
            &outside.namespace,
            "192.0.2.1".parse().unwrap(),
            8081,
        )
        .unwrap();
        cni.del(&first.network).unwrap();
        cni.del(&second.network).unwrap();
    });
}

#[test]
fn host_ports_can_be_left_alone() {
    if !is_root() {
        return;
    }
    let (host, _outside, _) = host_with_outside();
    let cni = Cni::new(CniSettings {
        host_ports: HostPorts::Left,
        ..host.settings()
    });
    host.namespace.run(|| {
        let mut pod = Pod::new("aa");
        pod.network.port_mappings = vec![mapping(8080, 80, "")];
        cni.add(&pod.network).unwrap();
        assert!(!host.ruleset().contains("crioxide_hostports"));
        cni.del(&pod.network).unwrap();
    });
}

/// As CRI-O 1.37 lays them out, with the elements of two pods.
const HOST_PORTS_OF_CRI_O: &str = r#"table ip crio-hostports {
    map hostports {
        type inet_proto . inet_service : ipv4_addr . inet_service
        elements = { tcp . 8080 comment "VCXG43XJFGV6UOX4" : 10.21.0.2 . 80, udp . 53 comment "OTHER" : 10.21.0.3 . 53 }
    }
    map hostipports {
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
        elements = { 192.0.2.1 . tcp . 8081 comment "VCXG43XJFGV6UOX4" : 10.21.0.2 . 81 }
    }
    set hairpins {
        type ipv4_addr . ipv4_addr
        elements = { 10.21.0.2 . 10.21.0.2 comment "VCXG43XJFGV6UOX4", 10.21.0.3 . 10.21.0.3 comment "OTHER" }
    }
}"#;

#[test]
fn what_cri_o_mapped_is_given_back() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.namespace.run(|| {
        let plugins = crioxide_cni_plugins::Builtin::default();
        let pod = "0123456789abcdef".repeat(4);
        // No table is fine too.
        plugins
            .release_host_ports_of_cri_o(&pod, &[], std::time::Instant::now() + PATIENCE)
            .unwrap();
        nft(&[HOST_PORTS_OF_CRI_O]);
        assert_eq!(host.ruleset().matches("VCXG43XJFGV6UOX4").count(), 3);
        plugins
            .release_host_ports_of_cri_o(&pod, &[], std::time::Instant::now() + PATIENCE)
            .unwrap();
        let left = host.ruleset();
        assert!(!left.contains("VCXG43XJFGV6UOX4"), "{left}");
        assert_eq!(left.matches("OTHER").count(), 2, "{left}");
    });
}

/// A client that never stops sending follows the port to its new owner.
#[test]
fn a_udp_flow_follows_its_port() {
    if !is_root() {
        return;
    }
    for_each_backend(|name, host, outside, cni| {
        println!("{name}");
        host.namespace.run(|| {
            let client = outside
                .namespace
                .run(|| UdpSocket::bind("0.0.0.0:5000").unwrap());
            client
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            let udp = PortMapping {
                protocol: Protocol::Udp,
                ..mapping(9000, 90, "")
            };
            for id in ["aa", "bb"] {
                let mut pod = Pod::new(id);
                // Sent to the host itself while nobody has the port: tracked without translation.
                client.send_to(b"early", "192.0.2.1:9000").unwrap();
                pod.network.port_mappings = vec![udp.clone()];
                cni.add(&pod.network).unwrap();
                let server = pod.namespace.run(|| UdpSocket::bind("0.0.0.0:90").unwrap());
                server
                    .set_read_timeout(Some(Duration::from_millis(200)))
                    .unwrap();
                let mut buffer = [0; 16];
                let arrived = (0..25).any(|_| {
                    client.send_to(id.as_bytes(), "192.0.2.1:9000").unwrap();
                    server
                        .recv_from(&mut buffer)
                        .is_ok_and(|(count, _)| &buffer[..count] == id.as_bytes())
                });
                assert!(arrived, "pod {id} got nothing");
                cni.del(&pod.network).unwrap();
            }
        });
    });
}

/// A pod that could not be attached for its network's configuration is gone all the same.
#[test]
fn refused_configurations_keep_no_pod() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let bridge = host.bridge("br0", r#"[[{"subnet":"10.23.0.0/24"}]]"#, "");
    let cni = host.cni();
    host.namespace.run(|| {
        for (plugin, keys) in [
            ("portmap", r#""backend":"ipfw""#),
            ("portmap", r#""markMasqBit":32"#),
            (
                "portmap",
                r#""backend":"nftables","conditionsV4":["-s","10.0.0.0/8"]"#,
            ),
            (
                "portmap",
                r#""backend":"iptables","conditionsV4":["ip","saddr","10.0.0.0/8"]"#,
            ),
            ("tuning", r#""sysctl":{"kernel.core_pattern":"x"}"#),
            ("firewall", r#""ingressPolicy":"none""#),
            (
                "firewall",
                r#""ingressPolicy":"isolated","backend":"ebtables""#,
            ),
        ] {
            let capabilities = r#""capabilities":{"portMappings":true}"#;
            let refused = format!(r#"{{"type":"{plugin}",{keys},{capabilities}}}"#);
            host.configure(
                "10.conflist",
                "1.0.0",
                "net",
                &format!("[{bridge},{refused}]"),
            );
            let mut pod = Pod::new("aa");
            pod.network.port_mappings = vec![mapping(8080, 80, "")];
            cni.add(&pod.network).unwrap_err();
            assert!(host.records().is_empty(), "{refused}: {:?}", host.records());
            assert!(host.reserved("net").is_empty(), "{refused}");
        }
    });
}
