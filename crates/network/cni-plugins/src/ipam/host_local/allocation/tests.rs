use std::time::{Duration, Instant};

use super::*;

fn range(subnet: &str, start: &str, end: &str) -> Range {
    let subnet: IpNet = subnet.parse().unwrap();
    let gateway = address(number(subnet.network()) + 1, subnet.addr());
    Range {
        subnet,
        start: start.parse().unwrap(),
        end: end.parse().unwrap(),
        gateway,
    }
}

fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(
        &dir.path().join("net"),
        Instant::now() + Duration::from_secs(5),
    )
    .unwrap()
}

#[test]
fn round_robin_over_ranges_until_exhausted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let owner = Owner {
        container_id: "c",
        ifname: "eth0",
    };
    let set = RangeSet(vec![
        range("10.0.0.0/24", "10.0.0.1", "10.0.0.3"),
        range("10.0.1.0/24", "10.0.1.8", "10.0.1.9"),
    ]);
    let next =
        || allocate(&store, &owner, &set, 0, None).map(|config| config.address.addr().to_string());
    assert_eq!(next().unwrap(), "10.0.0.2", "the gateway is skipped");
    assert_eq!(next().unwrap(), "10.0.0.3");
    assert_eq!(next().unwrap(), "10.0.1.8");
    store.release("10.0.0.2".parse().unwrap(), &owner).unwrap();
    assert_eq!(
        next().unwrap(),
        "10.0.1.9",
        "a released address is not reused at once"
    );
    assert_eq!(next().unwrap(), "10.0.0.2");
    let error = next().unwrap_err().to_string();
    assert_eq!(
        error,
        "no IP addresses available in range set: 10.0.0.1-10.0.0.3,10.0.1.8-10.0.1.9"
    );
}

#[test]
fn requested_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let owner = Owner {
        container_id: "c",
        ifname: "eth0",
    };
    let set = RangeSet(vec![range("fd00::/64", "fd00::1", "fd00::ffff")]);
    let ask = |text: &str| allocate(&store, &owner, &set, 1, Some(text.parse().unwrap()));
    assert_eq!(ask("fd00::77").unwrap().address.to_string(), "fd00::77/64");
    for refused in ["fd00::77", "fd00::1", "fd00::1:0"] {
        assert!(
            matches!(ask(refused), Err(AllocateError::NotAvailable { .. })),
            "{refused}"
        );
    }
}

/// Property: whatever is taken and wherever the search begins, every free address is offered once.
#[test]
fn candidates_cover_the_set_exactly_once() {
    let set = RangeSet(vec![
        range("10.0.0.0/28", "10.0.0.1", "10.0.0.14"),
        range("10.0.1.0/29", "10.0.1.2", "10.0.1.6"),
    ]);
    let all: HashSet<IpAddr> = candidates(&set, None).map(|(_, address)| address).collect();
    assert_eq!(all.len(), 13 + 5);
    let begins = all
        .iter()
        .copied()
        .map(Some)
        .chain([None, Some("192.0.2.1".parse().unwrap())]);
    for last in begins {
        let offered: Vec<IpAddr> = candidates(&set, last).map(|(_, address)| address).collect();
        assert_eq!(offered.len(), all.len(), "{last:?}");
        assert_eq!(
            offered.iter().copied().collect::<HashSet<_>>(),
            all,
            "{last:?}"
        );
    }
}

#[test]
fn the_reference_plugins_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let owner = Owner {
        container_id: "abc",
        ifname: "eth0",
    };
    let set = RangeSet(vec![range("10.87.0.0/16", "10.87.0.1", "10.87.255.254")]);
    allocate(&store, &owner, &set, 0, None).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join("net").join(name)).unwrap();
    assert_eq!(read("10.87.0.2"), "abc\r\neth0");
    assert_eq!(read("last_reserved_ip.0"), "10.87.0.2");
    std::fs::write(dir.path().join("net/10.87.0.9"), "abc").unwrap();
    let mut owned = store.owned(&owner).unwrap();
    owned.sort_unstable();
    assert_eq!(owned.len(), 2, "records of old versions count: {owned:?}");
    store.release_all_but(&[("other", "eth0")]).unwrap();
    assert!(store.taken().unwrap().is_empty());
}

#[test]
fn a_held_lock_is_given_up_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let _held = store(&dir);
    let error = Store::open(&dir.path().join("net"), Instant::now()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
}
