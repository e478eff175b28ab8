//! Many pods at once leave nothing behind.

use std::collections::HashSet;
use std::thread;

use crioxide_cni::{PortMapping, Protocol};

use crate::fixture::{Host, Pod, eventually, is_root};

const PODS: u16 = 50;

#[test]
fn fifty_pods_come_and_go_together() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let ranges = r#"[[{"subnet":"10.31.0.0/24"}],[{"subnet":"fd31::/64"}]]"#;
    let bridge = host.bridge("br0", ranges, r#","ipMasq":true,"hairpinMode":true"#);
    host.configure(
        "10.conflist",
        "1.0.0",
        "net",
        &format!(r#"[{bridge},{{"type":"portmap","capabilities":{{"portMappings":true}}}}]"#),
    );
    let cni = host.cni();
    let mut pods: Vec<_> = (0..PODS)
        .map(|number| Pod::new(&format!("p{number}")))
        .collect();
    for (pod, number) in pods.iter_mut().zip(0..) {
        pod.network.port_mappings = vec![PortMapping {
            host_port: 10_000 + number,
            container_port: 80,
            protocol: Protocol::Udp,
            host_ip: String::new(),
        }];
    }
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = pods
            .chunks(5)
            .map(|batch| {
                let (host, cni) = (&host, &cni);
                scope.spawn(move || {
                    host.namespace.run(|| {
                        batch
                            .iter()
                            .map(|pod| cni.add(&pod.network).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
            })
            .collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let addresses: HashSet<_> = results
        .iter()
        .flat_map(|result| result.ips.clone())
        .collect();
    assert_eq!(addresses.len(), usize::from(PODS) * 2, "no address twice");
    assert_eq!(host.veths().len(), usize::from(PODS));
    host.namespace
        .run(|| pods.iter().for_each(|pod| cni.check(&pod.network).unwrap()));

    thread::scope(|scope| {
        for batch in pods.chunks(5) {
            let (host, cni) = (&host, &cni);
            scope.spawn(move || {
                host.namespace
                    .run(|| batch.iter().for_each(|pod| cni.del(&pod.network).unwrap()))
            });
        }
    });
    assert!(host.reserved("net").is_empty() && host.records().is_empty());
    let ruleset = host.ruleset();
    assert!(!ruleset.contains("net/p"), "{ruleset}");
    drop(pods);
    eventually("the veth pairs died with their namespaces", || {
        host.veths().is_empty()
    });
    host.namespace
        .run(|| crioxide_cni_plugins::remove_network("net", "br0").unwrap());
    assert_eq!(host.ruleset(), "");
    assert!(
        host.namespace.links().iter().all(|link| link.name == "lo"),
        "{:?}",
        host.namespace.links()
    );
}
