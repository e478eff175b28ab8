//! Pods that get a namespace which was made ahead.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use crioxide_cni::{Cni, CniSettings, PodNetwork};
use crioxide_cni_plugins::Builtin;
use crioxide_netlink::{Netns, RouteSocket};

use crate::contract::shape;
use crate::fixture::{Host, Pod, eventually, is_root};

#[test]
fn a_pair_made_ahead_is_connected_like_a_new_one() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let plugins = Builtin::default();
    let cni = Cni::new(CniSettings {
        builtin: Box::new(plugins.clone()),
        ..host.settings()
    });
    let ranges = r#"[[{"subnet":"10.40.0.0/24"}],[{"subnet":"fd40::/64"}]]"#;
    let bridge = host.bridge("br40", ranges, r#","mtu":1400,"hairpinMode":true"#);
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    assert!(cni.begins_with_builtin("bridge") && !cni.begins_with_builtin("ptp"));

    let spare = host.namespace.run(|| plugins.make_spare(Some("eth0")));
    let spare = spare.unwrap();
    assert!(spare.has_pair());
    let made = host.veths();
    let held = spare.netns().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    plugins.hand_out(spare, &path);
    let ordinary = Pod::new("aa");
    let other = Pod::new("bb");
    let ahead = PodNetwork {
        netns: path.clone(),
        ..other.network.clone()
    };
    let (first, second) = host
        .namespace
        .run(|| (cni.add(&ordinary.network), cni.add(&ahead)));
    let (first, second) = (first.unwrap(), second.unwrap());
    let alike = |result| {
        shape(result)
            .to_string()
            .replace("::2/", "::3/")
            .replace(".2/", ".3/")
    };
    assert_eq!(alike(&first.result), alike(&second.result));
    assert_eq!(second.result["interfaces"][1]["name"], made[0]);

    let port = host.namespace.link(&made[0]).unwrap();
    assert!(port.up && port.hairpin && port.mtu == 1400, "{port:?}");
    let netns = Netns::open(&path).unwrap();
    let mut inside = RouteSocket::open_in(&netns).unwrap();
    for (name, mtu) in [("lo", 65536), ("eth0", 1400)] {
        let link = inside.link_by_name(name).unwrap().unwrap();
        assert!(link.up && link.mtu == mtu, "{link:?}");
    }
    host.namespace.run(|| cni.check(&ahead)).unwrap();
    host.namespace.run(|| cni.del(&ahead)).unwrap();
    host.namespace.run(|| cni.del(&ordinary.network)).unwrap();
    assert!(host.reserved("net").is_empty() && host.records().is_empty());
}

/// A pair knows nothing of the configuration that it is used with.
#[test]
fn a_pair_becomes_what_the_configuration_says() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let plugins = Builtin::default();
    let cni = Cni::new(CniSettings {
        builtin: Box::new(plugins.clone()),
        ..host.settings()
    });
    let spare = host.namespace.run(|| plugins.make_spare(Some("eth0")));
    let spare = spare.unwrap();
    let held = spare.netns().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    plugins.hand_out(spare, &path);
    let extra = r#","mtu":1300,"portIsolation":true,"args":{"cni":{"mac":"02:00:00:00:00:41"}}"#;
    let bridge = host.bridge("br41", r#"[[{"subnet":"10.41.0.0/24"}]]"#, extra);
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    let pod = PodNetwork {
        netns: path.clone(),
        ..Pod::new("aa").network.clone()
    };
    let made = host.veths();
    host.namespace.run(|| cni.add(&pod)).unwrap();
    assert_eq!(host.veths(), made);
    let port = host.namespace.link(&made[0]).unwrap();
    assert!(port.isolated && port.mtu == 1300, "{port:?}");
    let mut inside = RouteSocket::open_in(&Netns::open(&path).unwrap()).unwrap();
    let link = inside.link_by_name("eth0").unwrap().unwrap();
    assert_eq!(link.mac.unwrap().to_string(), "02:00:00:00:00:41");
    assert!(link.up && link.mtu == 1300, "{link:?}");
    host.namespace.run(|| cni.check(&pod)).unwrap();
    host.namespace.run(|| cni.del(&pod)).unwrap();
}

#[test]
fn a_pair_goes_out_of_the_way_of_another_plugin() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let plugins = Builtin::default();
    let cni = Cni::new(CniSettings {
        builtin: Box::new(plugins.clone()),
        ..host.settings()
    });
    let ptp = serde_json::json!({"type": "ptp", "ipam": host.ipam(&["10.42.0.0/24"], &[])});
    host.configure("10.conflist", "1.0.0", "net", &format!("[{ptp}]"));
    let spare = host.namespace.run(|| plugins.make_spare(Some("eth0")));
    let spare = spare.unwrap();
    let held = spare.netns().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    plugins.hand_out(spare, &path);
    let pod = PodNetwork {
        netns: path.clone(),
        ..Pod::new("aa").network.clone()
    };
    host.namespace.run(|| {
        cni.add(&pod).unwrap_err();
        let stale = host.veths();
        plugins.discard_pair(&path).unwrap();
        plugins.discard_pair(&path).unwrap();
        assert!(host.veths().is_empty(), "{stale:?}");
        cni.add(&pod).unwrap();
        cni.check(&pod).unwrap();
        cni.del(&pod).unwrap();
    });
}

#[test]
fn one_that_nobody_holds_is_gone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let plugins = Builtin::default();
    let spare = host.namespace.run(|| plugins.make_spare(Some("eth0")));
    assert_eq!(host.veths().len(), 1);
    drop(spare.unwrap());
    eventually("the pair is gone", || host.veths().is_empty());
}
