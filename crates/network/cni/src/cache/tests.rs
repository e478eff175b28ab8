use serde_json::json;

use super::*;

fn entry() -> CachedAttachment {
    CachedAttachment {
        attachment: Attachment {
            container_id: "0123abcd".to_owned(),
            ifname: "eth0".to_owned(),
            netns: Some(PathBuf::from("/var/run/netns/a")),
            network: "my-net".to_owned(),
            args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
            capability_args: Map::new(),
        },
        config: br#"{"name":"my-net"}"#.to_vec(),
        result: Some(json!({"cniVersion": "1.0.0"})),
        builtin: vec!["bridge".to_owned()],
        host_ports: false,
        netns_id: Some((4, 17)),
    }
}

#[test]
fn stores_lists_and_removes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ResultCache::new(dir.path());
    assert_eq!(cache.list().unwrap(), []);
    let entry = entry();
    cache
        .store(&CachedAttachment {
            result: None,
            ..entry.clone()
        })
        .unwrap();
    assert_eq!(
        cache.list().unwrap()[0].result,
        None,
        "an intent has no result"
    );
    cache.store(&entry).unwrap();
    assert_eq!(
        cache.of_container("0123abcd", "eth0").unwrap().entries,
        std::slice::from_ref(&entry)
    );
    assert_eq!(cache.of_container("0123abcd", "eth1").unwrap().entries, []);
    fs::write(dir.path().join("results/other-0123abcd-net1"), "not json").unwrap();
    assert_eq!(cache.list().unwrap().len(), 1);
    let torn = cache.of_container("0123abcd", "net1").unwrap();
    assert_eq!((torn.entries.len(), torn.broken.len()), (0, 1));
    cache.remove(&entry.attachment).unwrap();
    cache.remove(&entry.attachment).unwrap();
    assert_eq!(cache.list().unwrap(), []);
}

/// The keys and their encodings as the reference library writes them.
#[test]
fn has_the_reference_format() {
    let dir = tempfile::tempdir().unwrap();
    ResultCache::new(dir.path()).store(&entry()).unwrap();
    let path = dir.path().join("results/my-net-0123abcd-eth0");
    let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(value["kind"], "cniCacheV1");
    assert_eq!(value["containerId"], "0123abcd");
    assert_eq!(value["config"], "eyJuYW1lIjoibXktbmV0In0=");
    assert_eq!(value["ifName"], "eth0");
    assert_eq!(value["networkName"], "my-net");
    assert_eq!(value["cniArgs"], json!([["IgnoreUnknown", "1"]]));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// A record of a real CRI-O node, shortened ids.
#[test]
fn reads_what_cri_o_wrote() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("results")).unwrap();
    let record = r#"{"kind":"cniCacheV1","containerId":"00ab","config":"e30=","ifName":"eth0","networkName":"rec",
        "netns":"/var/run/netns/54f0","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_INFRA_CONTAINER_ID","00ab"]],
        "capabilityArgs":{"cgroupPath":"/rec/pod1"},"result":{"cniVersion":"1.0.0","ips":[]}}"#;
    fs::write(dir.path().join("results/rec-00ab-eth0"), record).unwrap();
    let entries = ResultCache::new(dir.path()).list().unwrap();
    assert!(entries[0].attachment.is_pod());
    assert_eq!(
        entries[0].attachment.capability_args["cgroupPath"],
        "/rec/pod1"
    );
    assert!(entries[0].builtin.is_empty(), "made by programs");
}
