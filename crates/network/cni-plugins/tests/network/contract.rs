//! What every implementation of the bridge and host-local plugins must do: the built-in ones and,
//! where they are installed, the reference plugins as programs.

use std::path::PathBuf;

use crioxide_cni::{Cni, CniError, Preference};

use crate::fixture::{Host, Pod, eventually, is_root, talk};

const REFERENCE_PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

fn implementations(host: &Host) -> Vec<(&'static str, Cni)> {
    all_of(host)
        .into_iter()
        .map(|implementation| (implementation.name, implementation.cni))
        .collect()
}

/// Somebody's plugins, on a host.
pub(crate) struct Implementation {
    pub(crate) name: &'static str,
    pub(crate) cni: Cni,
}

/// The built-in plugins; the reference plugins, where they are installed; and this project's program
/// in their place, where `CRIOXIDE_TEST_BINARY` names it.
pub(crate) fn all_of(host: &Host) -> Vec<Implementation> {
    let mut all = vec![Implementation {
        name: "built-in",
        cni: host.cni(),
    }];
    let mut add = |name, dir: PathBuf| {
        let settings = crioxide_cni::CniSettings {
            plugin_dirs: vec![dir],
            ..host.settings()
        };
        all.push(Implementation {
            name,
            cni: Cni::new(settings),
        });
    };
    match reference_dir() {
        Some(dir) => add("reference", dir),
        None => eprintln!("skipped for the reference plugins: they are not installed"),
    }
    if let Some(program) = std::env::var_os("CRIOXIDE_TEST_BINARY") {
        let dir = host.path("links");
        std::fs::create_dir_all(&dir).unwrap();
        for name in crioxide_cni_plugins::PLUGIN_TYPES {
            let link = dir.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(&program, link).unwrap();
            }
        }
        add("program", dir);
    }
    all
}

pub(crate) fn reference_dir() -> Option<PathBuf> {
    REFERENCE_PLUGINS
        .iter()
        .map(PathBuf::from)
        .find(|dir| dir.join("bridge").exists())
}

/// Runs a test once for each implementation that has all of `plugins`, each on a host of its own.
pub(crate) fn for_each(plugins: &[&str], test: impl Fn(&str, &Host, &Cni) + Sync) {
    if !is_root() {
        return;
    }
    for which in 0.. {
        let host = Host::new();
        let Some(one) = all_of(&host).into_iter().nth(which) else {
            return;
        };
        let missing = plugins.iter().find(|plugin| {
            one.name == "reference" && !reference_dir().unwrap().join(plugin).exists()
        });
        match missing {
            Some(missing) => eprintln!("skipped for the reference plugins: they have no {missing}"),
            None => host.namespace.run(|| test(one.name, &host, &one.cni)),
        }
    }
}

/// A result without what differs from pod to pod: names and addresses of links.
pub(crate) fn shape(result: &serde_json::Value) -> serde_json::Value {
    let mut shape = result.clone();
    if let Some(links) = shape["interfaces"].as_array_mut() {
        for link in links {
            for key in ["mac", "mtu", "sandbox"] {
                if link.get(key).is_some() {
                    link[key] = "some".into();
                }
            }
            // Only newer ones tell.
            link.as_object_mut().unwrap().remove("mtu");
            let name = link["name"].as_str().unwrap();
            if name.starts_with("veth") || name.starts_with("bwp") {
                link["name"] = name[..3].into();
            }
        }
    }
    shape
}

#[test]
fn add_check_del_in_every_version() {
    if !is_root() {
        return;
    }
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        for which in 0..3 {
            let host = Host::new();
            let Some((name, cni)) = implementations(&host).into_iter().nth(which) else {
                continue;
            };
            let bridge = host.bridge(
                "br0",
                r#"[[{"subnet":"10.11.0.0/24"}],[{"subnet":"fd11::/64"}]]"#,
                "",
            );
            host.configure("10.conflist", version, "net", &format!("[{bridge}]"));
            host.namespace
                .run(|| add_check_del(&format!("{name} {version}"), &host, &cni, version));
        }
    }
}

fn add_check_del(name: &str, host: &Host, cni: &Cni, version: &str) {
    cni.status()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let (first, second) = (Pod::new("aaaa"), Pod::new("bbbb"));
    let added = cni
        .add(&first.network)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let other = cni
        .add(&second.network)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert_eq!(added.network, "net");
    let texts: Vec<_> = added.ips.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.11.0.2", "fd11::2"], "{name}");
    assert_eq!(added.result["cniVersion"], "1.1.0", "{name}");
    assert_eq!(added.result["ips"][0]["gateway"], "10.11.0.1", "{name}");
    assert_eq!(added.result["interfaces"][2]["name"], "eth0", "{name}");
    assert_eq!(
        added.result["interfaces"][2]["sandbox"],
        first.network.netns.to_str().unwrap(),
        "{name}"
    );
    assert_eq!(host.reserved("net").len(), 4, "{name}");

    let loopback = first
        .namespace
        .links()
        .into_iter()
        .find(|link| link.name == "lo")
        .unwrap();
    assert!(loopback.up, "{name}");

    // Between pods, and with the host by the gateway, on both families.
    for family in 0..2 {
        let name = format!("{name}, family {family}");
        let server = first.namespace.listen("[::]:80");
        let seen = talk(&server, &second.namespace, added.ips[family], 80)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(unmapped(seen), other.ips[family], "{name}");
        let gateway = ["10.11.0.1", "fd11::1"][family];
        let from_gateway = || {
            talk(&server, &host.namespace, added.ips[family], 80)
                .is_ok_and(|seen| unmapped(seen).to_string() == gateway)
        };
        if name.starts_with("reference") {
            // It leaves the gateway's IPv6 address to duplicate detection for a while.
            eventually(&format!("{name}: the host talks"), from_gateway);
        } else {
            assert!(from_gateway(), "{name}");
        }
    }

    if version == "0.3.1" {
        assert!(
            matches!(
                cni.check(&first.network),
                Err(CniError::CheckUnsupported { .. })
            ),
            "{name}"
        );
    } else {
        cni.check(&first.network)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }

    cni.del(&first.network)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    cni.del(&first.network)
        .unwrap_or_else(|error| panic!("{name}: DEL again: {error:?}"));
    assert_eq!(host.reserved("net").len(), 2, "{name}");
    assert!(
        matches!(cni.check(&first.network), Err(CniError::Unknown { .. })),
        "{name}"
    );

    // The second pod's namespace goes before its DEL.
    let gone = second.network.clone();
    drop(second);
    cni.del(&gone)
        .unwrap_or_else(|error| panic!("{name}: DEL without namespace: {error:?}"));
    assert!(host.reserved("net").is_empty(), "{name}");
    assert!(host.records().is_empty(), "{name}");
    drop(first);
    eventually("the veth pairs died with their namespaces", || {
        host.veths().is_empty()
    });
}

/// An IPv4 peer of an IPv6 socket.
fn unmapped(address: std::net::IpAddr) -> std::net::IpAddr {
    address.to_canonical()
}

#[test]
fn check_finds_what_was_changed() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let cni = host.cni();
    let bridge = host.bridge(
        "br0",
        r#"[[{"subnet":"10.12.0.0/24"}]]"#,
        r#","ipMasq":true,"hairpinMode":true"#,
    );
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    host.namespace.run(|| {
        let pod = Pod::new("cccc");
        cni.add(&pod.network).unwrap();
        cni.check(&pod.network).unwrap();
        pod.namespace.run(|| {
            let mut socket = crioxide_netlink::RouteSocket::open().unwrap();
            let index = socket.link_by_name("eth0").unwrap().unwrap().index;
            let mut requests = crioxide_netlink::LinkRequests::default();
            requests.delete_address(index, "10.12.0.2/24".parse().unwrap());
            requests.send(&mut socket).unwrap();
        });
        let error = cni.check(&pod.network).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("10.12.0.2/24 is missing"), "{cause}");
        cni.del(&pod.network).unwrap();
    });
}

#[test]
fn exhausted_ranges_and_their_release() {
    if !is_root() {
        return;
    }
    for which in 0..3 {
        let host = Host::new();
        let Some((name, cni)) = implementations(&host).into_iter().nth(which) else {
            continue;
        };
        let bridge = host.bridge(
            "br0",
            r#"[[{"subnet":"10.13.0.0/29","rangeEnd":"10.13.0.3"}]]"#,
            "",
        );
        host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
        host.namespace.run(|| {
            let pods: Vec<_> = (0..3)
                .map(|number| Pod::new(&format!("dd{number}")))
                .collect();
            assert_eq!(
                cni.add(&pods[0].network).unwrap().ips[0].to_string(),
                "10.13.0.2"
            );
            assert_eq!(
                cni.add(&pods[1].network).unwrap().ips[0].to_string(),
                "10.13.0.3"
            );
            let error = cni.add(&pods[2].network).unwrap_err();
            assert!(
                matches!(&error, CniError::Add { undo: None, .. }),
                "{name}: {error:?}"
            );
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(
                cause.contains("no IP addresses available in range set: 10.13.0.1-10.13.0.3"),
                "{name}: {cause}"
            );
            assert_eq!(
                host.records().len(),
                2,
                "{name}: the failed ADD was taken back"
            );
            assert!(
                pods[2]
                    .namespace
                    .links()
                    .iter()
                    .all(|link| link.name != "eth0"),
                "{name}"
            );
            cni.del(&pods[0].network).unwrap();
            assert_eq!(
                cni.add(&pods[2].network).unwrap().ips[0].to_string(),
                "10.13.0.2",
                "{name}"
            );
        });
    }
}

#[test]
fn either_undoes_what_the_other_did() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let both = all_of(&host);
    let Some(reference) = both.iter().find(|one| one.name == "reference") else {
        return;
    };
    let (builtin, reference) = (&both[0].cni, &reference.cni);
    let bridge = host.bridge("br0", r#"[[{"subnet":"10.14.0.0/24"}]]"#, "");
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    host.namespace.run(|| {
        let (one, two) = (Pod::new("e1"), Pod::new("e2"));
        builtin.add(&one.network).unwrap();
        reference.add(&two.network).unwrap();
        assert_eq!(host.reserved("net"), ["10.14.0.2", "10.14.0.3"]);
        host.swap_makers();
        reference.check(&one.network).unwrap();
        builtin.check(&two.network).unwrap();
        reference.del(&one.network).unwrap();
        builtin.del(&two.network).unwrap();
        assert!(host.reserved("net").is_empty());
    });
}

#[test]
fn a_machine_without_configuration_has_a_network_when_asked_for() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let reason = host.cni().status().unwrap_err().reason;
    assert!(
        reason.contains("Has your network provider started?"),
        "{reason}"
    );
    let subnets = vec!["10.15.0.0/16".parse().unwrap()];
    let fallback = crioxide_cni::FallbackBridge::new(subnets, &host.path("cache"));
    let settings = crioxide_cni::CniSettings {
        fallback_bridge: Some(fallback),
        preference: Preference::Builtin,
        ..host.settings()
    };
    let cni = Cni::new(settings);
    host.namespace.run(|| {
        cni.status().unwrap();
        let (one, two) = (Pod::new("f1"), Pod::new("f2"));
        let added = cni.add(&one.network).unwrap();
        cni.add(&two.network).unwrap();
        let server = one.namespace.listen("0.0.0.0:80");
        talk(&server, &two.namespace, added.ips[0], 80).unwrap();
        cni.check(&one.network).unwrap();
        cni.del(&one.network).unwrap();
        cni.del(&two.network).unwrap();
        crioxide_cni_plugins::remove_network("crioxide", "crioxide0").unwrap();
        crioxide_cni_plugins::remove_network("crioxide", "crioxide0").unwrap();
    });
    assert!(
        host.namespace
            .links()
            .iter()
            .all(|link| link.kind != "bridge")
    );
    assert_eq!(host.ruleset(), "");
}
