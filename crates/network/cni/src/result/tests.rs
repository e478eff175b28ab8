use super::*;

fn newest() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "cni0", "mac": "02:00:00:00:00:01", "mtu": 1500},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a", "pciID": "0000:00:01.0"}
        ],
        "ips": [
            {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
            {"address": "fd00::5/64", "interface": 1},
            {"address": "192.0.2.1/24", "interface": 0}
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "table": 7}]
    })
}

#[test]
fn newest_round_trips() {
    let result = NetworkResult::parse(&newest(), SpecVersion::LATEST).unwrap();
    assert_eq!(result.to_value(SpecVersion::V1_1_0), newest());
    assert_eq!(
        result.pod_addresses(),
        [
            "10.1.0.5".parse::<IpAddr>().unwrap(),
            "fd00::5".parse().unwrap()
        ]
    );
}

#[test]
fn older_versions_get_their_own_shape() {
    let result = NetworkResult::parse(&newest(), SpecVersion::LATEST).unwrap();
    let old = result.to_value(SpecVersion::V0_4_0);
    assert_eq!(old["cniVersion"], "0.4.0");
    assert_eq!(old["ips"][0]["version"], "4");
    assert_eq!(old["ips"][1]["version"], "6");
    assert_eq!(old["dns"], json!({}));
    assert!(old["interfaces"][0].get("mtu").is_none());
    assert_eq!(
        old["routes"][0],
        json!({"dst": "0.0.0.0/0", "gw": "10.1.0.1"})
    );
    let middle = result.to_value(SpecVersion::V1_0_0);
    assert!(middle["ips"][0].get("version").is_none());
    let again = NetworkResult::parse(&old, SpecVersion::V0_4_0).unwrap();
    assert_eq!(again.to_value(SpecVersion::V1_0_0), middle);
}

#[test]
fn bad_results_are_refused() {
    for bad in [
        json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/24"}}),
        json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.300/24"}]}),
        json!({"cniVersion": "1.0.0", "ips": "none"}),
        json!("text"),
    ] {
        assert!(
            NetworkResult::parse(&bad, SpecVersion::V1_0_0).is_err(),
            "{bad}"
        );
    }
}
