//! Packet rules by iptables: what is made, given back, made again, and found by the reference plugins.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crioxide_cni::{Cni, CniSettings, PortMapping, Protocol};
use crioxide_cni_plugins::{Builtin, CANARY_CHAIN};

use crate::contract::all_of;
use crate::fixture::{Host, PATIENCE, Pod, is_root, talk};
use crate::ports::{host_with, mapping};

/// One of the programs that may be called `iptables`.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    program: &'static str,
}

const VARIANTS: [Variant; 2] = [
    Variant {
        name: "iptables of nf_tables",
        program: "/usr/sbin/xtables-nft-multi",
    },
    Variant {
        name: "legacy iptables",
        program: "/usr/sbin/xtables-legacy-multi",
    },
];

/// Those that are installed and that this kernel knows.
pub(crate) fn variants() -> impl Iterator<Item = &'static Variant> {
    VARIANTS.iter().filter(|variant| {
        let host = Host::new();
        variant.plugins(&host);
        let works = host.namespace.run(|| {
            let path = host.path("iptables").join("iptables");
            let output = Command::new(path).args(["-t", "nat", "-S"]).output();
            output.is_ok_and(|output| output.status.success())
        });
        if !works {
            eprintln!("skipped for {}: it does not work here", variant.name);
        }
        works
    })
}

impl Variant {
    /// Plugins that know no other iptables than this, and prefer them.
    pub(crate) fn plugins(&self, host: &Host) -> Builtin {
        let directory = host.path("iptables");
        if !directory.exists() {
            std::fs::create_dir(&directory).unwrap();
            for family in ["iptables", "ip6tables"] {
                for part in ["", "-save", "-restore"] {
                    let name = directory.join(format!("{family}{part}"));
                    symlink(self.program, name).unwrap();
                }
            }
        }
        Builtin::by_iptables(directory)
    }
}

/// The rules of a table, IPv4's and IPv6's.
fn rules(host: &Host, table: &str) -> String {
    let of = |family: &str| {
        let program = host.path("iptables").join(format!("{family}-save"));
        let output = Command::new(program).args(["-t", table]).output().unwrap();
        assert!(output.status.success(), "{family}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // Without counters and times.
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                line.strip_suffix(']')
                    .map_or(line, |line| &line[..line.rfind('[').unwrap()])
            })
            .map(|line| line.to_owned() + "\n")
            .collect::<String>()
    };
    of("iptables") + &of("ip6tables")
}

fn run(host: &Host, family: &str, arguments: &[&str]) {
    let program = host.path("iptables").join(family);
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{family} {arguments:?}: {done:?}");
}

/// Lines that name chains of one pod's.
fn of_pods(rules: &str) -> Vec<&str> {
    let is_shared = |line: &&str| {
        [
            "CNI-HOSTPORT-DNAT",
            "CNI-HOSTPORT-MASQ",
            "CNI-HOSTPORT-SETMARK",
        ]
        .iter()
        .any(|chain| line.contains(chain))
    };
    let lines = rules.lines().filter(|line| line.contains("CNI-"));
    lines
        .filter(|line| !is_shared(line) || line.contains("CNI-DN-"))
        .collect()
}

fn for_each(test: impl Fn(&str, &Host, &Pod, &Cni)) {
    if !is_root() {
        return;
    }
    for variant in variants() {
        let (host, outside, cni) = host_with(|host| variant.plugins(host));
        test(variant.name, &host, &outside, &cni);
    }
}

#[test]
fn rules_are_the_reference_plugins_and_go_with_their_pod() {
    for_each(|name, host, _outside, cni| {
        host.namespace.run(|| {
            let mut pod = Pod::new("aa");
            let sctp = PortMapping {
                protocol: Protocol::Sctp,
                ..mapping(9000, 90, "fd99::1")
            };
            pod.network.port_mappings = vec![mapping(8080, 80, ""), sctp];
            cni.add(&pod.network).unwrap();
            cni.check(&pod.network).unwrap();
            let made = rules(host, "nat");
            for expected in [
                "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
                "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
                "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
                r#"-A CNI-HOSTPORT-DNAT -p sctp -m comment --comment "dnat name: \"pods\" id: \"aa\"" -m multiport --dports 9000 -j CNI-DN-"#,
                "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.21.0.2:80",
                "-d fd99::1/128 -p sctp -m sctp --dport 9000 -j DNAT --to-destination [fd21::2]:90",
                "-s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
                r#" -d 10.21.0.0/24 -m comment --comment "name: \"pods\" id: \"aa\"" -j ACCEPT"#,
                r#"-A POSTROUTING -s fd21::2/128 -m comment --comment "name: \"pods\" id: \"aa\"" -j CNI-"#,
            ] {
                assert!(made.contains(expected), "{name}: no `{expected}` in\n{made}");
            }
            cni.del(&pod.network).unwrap();
            let left = rules(host, "nat");
            assert!(of_pods(&left).is_empty(), "{name}: {left}");
            cni.del(&pod.network).unwrap();
        });
    });
}

#[test]
fn flushed_rules_come_back() {
    for_each(|name, host, outside, cni| {
        host.namespace.run(|| {
            let plugins = Builtin::by_iptables(host.path("iptables"));
            let cni_again = Cni::new(CniSettings {
                builtin: Box::new(plugins.clone()),
                ..host.settings()
            });
            let mut pod = Pod::new("aa");
            pod.network.port_mappings = vec![mapping(8080, 80, "")];
            cni.add(&pod.network).unwrap();
            let before = rules(host, "nat");
            assert!(before.contains(CANARY_CHAIN), "{name}: {before}");
            assert!(cni_again.restore().unwrap().is_empty(), "{name}");
            assert_eq!(rules(host, "nat"), before, "{name}: nothing was missing");

            let deadline = Instant::now() + PATIENCE;
            assert!(!plugins.lost_unwatched_rules(deadline).unwrap(), "{name}");
            for family in ["iptables", "ip6tables"] {
                run(host, family, &["-t", "nat", "-F"]);
                run(host, family, &["-t", "nat", "-X"]);
            }
            run(host, "iptables", &["-t", "raw", "-F"]);
            assert!(cni.check(&pod.network).is_err(), "{name}");
            if plugins.has_unwatched_rules() {
                assert!(plugins.lost_unwatched_rules(deadline).unwrap(), "{name}");
            }
            assert!(cni_again.restore().unwrap().is_empty(), "{name}");
            assert!(!plugins.lost_unwatched_rules(deadline).unwrap(), "{name}");
            cni.check(&pod.network).unwrap();
            assert!(
                rules(host, "raw").contains("-d 127.0.0.0/8 ! -i lo"),
                "{name}"
            );
            let server = pod.namespace.listen("[::]:80");
            for address in ["192.0.2.1", "fd99::1"] {
                talk(&server, &outside.namespace, address.parse().unwrap(), 8080)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            cni.del(&pod.network).unwrap();
        });
    });
}

/// The kernel tells of the rules of the variant that speaks to nftables.
#[test]
fn the_end_of_the_canary_is_news() {
    for_each(|name, host, _outside, cni| {
        host.namespace.run(|| {
            let mut monitor = crioxide_netlink::nft::NftMonitor::open().unwrap();
            let mut lost = || monitor.lost_something("crioxide_", CANARY_CHAIN).unwrap();
            let mut pod = Pod::new("aa");
            pod.network.port_mappings = vec![mapping(8080, 80, "")];
            cni.add(&pod.network).unwrap();
            cni.del(&pod.network).unwrap();
            assert!(!lost(), "{name}: pods that come and go are no news");
            run(host, "iptables", &["-t", "nat", "-F"]);
            assert_eq!(lost(), name.contains("nf_tables"), "{name}");
        });
    });
}

/// Of pods that are no longer there, and of nobody else.
#[test]
fn garbage_is_collected() {
    for_each(|name, host, _outside, cni| {
        host.namespace.run(|| {
            let (mut lost, mut kept) = (Pod::new("aa"), Pod::new("bb"));
            lost.network.port_mappings = vec![mapping(8080, 80, "")];
            kept.network.port_mappings = vec![mapping(8081, 80, "")];
            cni.add(&lost.network).unwrap();
            cni.add(&kept.network).unwrap();
            // As if its record had been lost.
            for record in host.records() {
                if record.contains("-aa-") {
                    std::fs::remove_file(host.path("cache/results").join(record)).unwrap();
                }
            }
            cni.gc(&|_| true).unwrap();
            let left = rules(host, "nat");
            assert!(!left.contains("\\\"aa\\\""), "{name}: {left}");
            cni.check(&kept.network)
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        });
    });
}

/// Either finds and removes what the other made.
#[test]
fn host_ports_and_masquerading_of_the_reference_plugins() {
    if !is_root() {
        return;
    }
    if Command::new("iptables").arg("--version").output().is_err() {
        eprintln!("skipped: needs iptables");
        return;
    }
    let host = Host::new();
    let implementations = all_of(&host);
    let Some(reference) = implementations.iter().find(|one| one.name == "reference") else {
        return;
    };
    let ranges = r#"[[{"subnet":"10.22.0.0/24"}],[{"subnet":"fd22::/64"}]]"#;
    let extra = r#","ipMasq":true,"hairpinMode":true,"ipMasqBackend":"iptables""#;
    let bridge = host.bridge("pods0", ranges, extra);
    let plugins = format!(
        r#"[{bridge},{{"type":"portmap","backend":"iptables","capabilities":{{"portMappings":true}}}}]"#
    );
    host.configure("10.conflist", "1.0.0", "pods", &plugins);
    let own = &implementations[0].cni;
    host.namespace.run(|| {
        symlink(Path::new("/usr/sbin"), host.path("iptables")).unwrap();
        let (mut first, mut second) = (Pod::new("aa"), Pod::new("bb"));
        first.network.port_mappings = vec![mapping(8080, 80, ""), mapping(8081, 81, "10.22.0.1")];
        second.network.port_mappings = vec![mapping(8090, 80, "")];
        own.add(&first.network).unwrap();
        reference.cni.add(&second.network).unwrap();
        let made = rules(&host, "nat");
        for owner in [r#"\"aa\""#, r#"\"bb\""#] {
            assert!(made.contains(owner), "{made}");
        }
        host.swap_makers();
        // No CHECK by the other: that of 1.1 looks for each family's rules in both families' tables.
        own.check(&second.network).unwrap();
        reference.cni.del(&first.network).unwrap();
        own.del(&second.network).unwrap();
        let left = rules(&host, "nat");
        assert!(of_pods(&left).is_empty(), "{left}");
    });
}

/// Whoever is chosen now: what was made by the other backend goes with its pod.
#[test]
fn another_backend_than_before() {
    if !is_root() {
        return;
    }
    for variant in variants() {
        let (host, _outside, by_iptables) = host_with(|host| variant.plugins(host));
        let by_nftables = host.cni();
        let ranges = r#"[[{"subnet":"10.21.0.0/24"}],[{"subnet":"fd21::/64"}]]"#;
        let bridge = host.bridge("pods0", ranges, r#","ipMasq":true"#);
        let portmap = r#"{"type":"portmap","capabilities":{"portMappings":true}}"#;
        host.configure(
            "10.conflist",
            "1.0.0",
            "pods",
            &format!("[{bridge},{portmap}]"),
        );
        host.namespace.run(|| {
            for (first, second) in [(&by_iptables, &by_nftables), (&by_nftables, &by_iptables)] {
                let mut pod = Pod::new("aa");
                pod.network.port_mappings = vec![mapping(8080, 80, "")];
                first.add(&pod.network).unwrap();
                // Nothing says any longer who made it.
                for record in host.records() {
                    let path = host.path("cache/results").join(record);
                    let text = std::fs::read_to_string(&path).unwrap();
                    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
                    record["crioxide"]["builtin"] = serde_json::json!([]);
                    std::fs::write(&path, record.to_string()).unwrap();
                }
                second.del(&pod.network).unwrap();
                let left = rules(&host, "nat");
                assert!(of_pods(&left).is_empty(), "{}: {left}", variant.name);
                let left = host.ruleset();
                assert!(!left.contains("pods/aa"), "{}: {left}", variant.name);
            }
        });
    }
}

/// As a CRI-O without nftables lays them out.
#[test]
fn what_cri_o_mapped_is_given_back() {
    const POD: &str = "0855d5396cdc673af13203c9cc5c95367cad0133306ba4d74d1da6e2876ebe51";
    let script = r#"*nat
:KUBE-HOSTPORTS - [0:0]
:CRIO-HOSTPORTS-MASQ - [0:0]
:KUBE-HP-7BDNOFFT2YWI552I - [0:0]
:CRIO-MASQ-7BDNOFFT2YWI552I - [0:0]
:KUBE-HP-WLTFZLTJ4QV7FRX3 - [0:0]
:CRIO-MASQ-WLTFZLTJ4QV7FRX3 - [0:0]
-A PREROUTING -m comment --comment "kube hostport portals" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS
-A KUBE-HOSTPORTS -m comment --comment "pod1_ns1 hostport 8080" -m tcp -p tcp --dport 8080 -j KUBE-HP-7BDNOFFT2YWI552I
-A CRIO-HOSTPORTS-MASQ -m comment --comment "pod1_ns1 hostport 8080" -j CRIO-MASQ-7BDNOFFT2YWI552I
-A KUBE-HP-7BDNOFFT2YWI552I -m comment --comment "pod1_ns1 hostport 8080" -m tcp -p tcp -j DNAT --to-destination 10.1.1.2:80
-A CRIO-MASQ-7BDNOFFT2YWI552I -m conntrack --ctorigdstport 8080 -m tcp -p tcp --dport 80 -s 10.1.1.2/32 -d 10.1.1.2/32 -j MASQUERADE
-A KUBE-HOSTPORTS -m comment --comment "pod3_ns1 hostport 8443" -m tcp -p tcp --dport 8443 -j KUBE-HP-WLTFZLTJ4QV7FRX3
-A CRIO-HOSTPORTS-MASQ -m comment --comment "pod3_ns1 hostport 8443" -j CRIO-MASQ-WLTFZLTJ4QV7FRX3
-A KUBE-HP-WLTFZLTJ4QV7FRX3 -m comment --comment "pod3_ns1 hostport 8443" -m tcp -p tcp -j DNAT --to-destination 10.1.1.4:443
COMMIT
"#;
    for_each(|name, host, _outside, _cni| {
        host.namespace.run(|| {
            let file = host.path("rules");
            std::fs::write(&file, script).unwrap();
            run(host, "iptables-restore", &[file.to_str().unwrap()]);
            let plugins = Builtin::by_iptables(host.path("iptables"));
            let ports = [mapping(8080, 80, "")];
            for _ in 0..2 {
                let deadline = Instant::now() + PATIENCE;
                plugins
                    .release_host_ports_of_cri_o(POD, &ports, deadline)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                let left = rules(host, "nat");
                assert!(!left.contains("7BDNOFFT2YWI552I"), "{name}: {left}");
                assert_eq!(
                    left.matches("KUBE-HP-WLTFZLTJ4QV7FRX3").count(),
                    3,
                    "{left}"
                );
            }
        });
    });
}
